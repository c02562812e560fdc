"""The models around the graphs in Triton: what clients call, and what decodes images for them.

    ride        a Python model: takes images through the stages
    ride_image  an ensemble: ride_decoding, a Python model, then ride
    ride_graph  stages and routing in one graph (export/self_routing.py): no Python;
                ride_graph_rules is the same with rules as inputs, where that is wanted

Triton makes batches of several requests for `ride`, so its configuration leaves out the first
dimension of every tensor, and has to call `experts_used` [1] where its answer is [N].
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as triton

from export.config_pbtxt import CONFIG_FILE, as_text, graph_config, instance_group, latest
from export.placement import Placement, Target
from export.self_routing import MAX_EXPERTS, THRESHOLDS
from serving.dataplane.tensors import Datatype, TensorSpec, answer_tensors, image_tensor
from serving.in_triton import MAX_BATCH_SIZE
from serving.model.manifest import (
    IMAGE_MODEL_NAME,
    MODEL_NAME,
    RULES_MODEL_NAME,
    SELF_ROUTING_MODEL_NAME,
    Manifest,
)

DECODING_MODEL = "ride_decoding"
LABELS_FILE = "labels.txt"
_KEEP = ".keep"
"""An ensemble's version is a folder without a file, which git would not keep."""

_MODEL_PY = '''"""`{name}` in Triton's Python backend: serving/in_triton/{module}.py."""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("serving") is None:  # not installed in Triton's Python: perhaps this is in a checkout
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from serving.in_triton.{module} import {model} as TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_triton_models(
    directory: Path, manifest: Manifest, version: int, placement: Placement
) -> None:
    """Write them into a repository's folder, beside the graphs and the manifest."""
    for config in (
        _routing(manifest, placement),
        _decoding(manifest, placement),
        _image_ensemble(manifest),
        *_self_routing(manifest, placement),
    ):
        folder = directory / config.name / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        (folder.parent / CONFIG_FILE).write_text(as_text(config))
    _write_model_py(directory, version, MODEL_NAME, "routing_model", "RoutingModel")
    _write_model_py(directory, version, DECODING_MODEL, "decoding_model", "DecodingModel")
    (directory / IMAGE_MODEL_NAME / str(version) / _KEEP).touch()
    labels = "".join(f"{name}\n" for name in manifest.class_names)
    for model in (MODEL_NAME, IMAGE_MODEL_NAME, SELF_ROUTING_MODEL_NAME, RULES_MODEL_NAME):
        if (directory / model).exists():
            (directory / model / LABELS_FILE).write_text(labels, encoding="utf-8")


def _write_model_py(directory: Path, version: int, name: str, module: str, model: str) -> None:
    text = _MODEL_PY.format(name=name, module=module, model=model)
    (directory / name / str(version) / "model.py").write_text(text)


def _routing(manifest: Manifest, placement: Placement) -> triton.ModelConfig:
    gpu = placement.target is not Target.CPU
    spec, answers = manifest.image, _answers(manifest)
    for answer in answers:
        answer.dims[:] = answer.dims[1:] or [1]
    return triton.ModelConfig(
        name=MODEL_NAME,
        backend="python",
        max_batch_size=MAX_BATCH_SIZE,
        version_policy=latest(1),
        input=[triton.ModelInput(name="image", **_pixels(spec.height, spec.width, 3))],
        output=answers,
        # One more for every two: while some wait for stages, another prepares or answers.
        instance_group=[instance_group(placement.instances + placement.instances // 2, gpu=gpu)],
        # Without priorities, timeouts or a bound: with any of them Triton no longer takes requests
        # ahead for a busy instance, and one that comes then waits for half a second.
        dynamic_batching=triton.ModelDynamicBatching(),
    )


def _decoding(manifest: Manifest, placement: Placement) -> triton.ModelConfig:
    spec = manifest.image
    return triton.ModelConfig(
        name=DECODING_MODEL,
        backend="python",
        version_policy=latest(1),
        input=[_FILES],
        output=[triton.ModelOutput(name="image", **_pixels(-1, spec.height, spec.width, 3))],
        instance_group=[instance_group(placement.instances)],
    )


def _image_ensemble(manifest: Manifest) -> triton.ModelConfig:
    """Without batches of several requests: it has the dimension of images itself."""
    answers = _answers(manifest)
    return triton.ModelConfig(
        name=IMAGE_MODEL_NAME,
        platform="ensemble",
        version_policy=latest(1),
        input=[_FILES],
        output=answers,
        ensemble_scheduling=triton.ModelEnsembling(
            step=[
                _step(DECODING_MODEL, ["image_bytes"], ["image"]),
                _step(MODEL_NAME, ["image"], [answer.name for answer in answers]),
            ]
        ),
    )


def _self_routing(manifest: Manifest, placement: Placement) -> Iterator[triton.ModelConfig]:
    """With the model's own rule, and with rules as inputs where they are wanted and there are any.

    Two models, because Triton makes no batches for one whose inputs are optional.
    """
    routers = manifest.num_experts - 1
    image = image_tensor(manifest)
    rules = (
        TensorSpec(THRESHOLDS, Datatype.FP32, (-1, routers)),
        TensorSpec(MAX_EXPERTS, Datatype.INT32, (-1, 1)),
    )
    inputs: dict[str, tuple[TensorSpec, ...]] = {SELF_ROUTING_MODEL_NAME: (image,)}
    if placement.rules_as_inputs and routers:
        inputs[RULES_MODEL_NAME] = (image, *rules)
    answers = [tensor for tensor in answer_tensors(manifest) if 0 not in tensor.shape]
    for name, tensors in inputs.items():
        config = graph_config(name, tensors, answers, placement)
        config.version_policy.CopyFrom(latest(1))
        config.output[0].label_filename = LABELS_FILE
        yield config


def _step(model: str, inputs: list[str], outputs: list[str]) -> triton.ModelEnsembling.Step:
    return triton.ModelEnsembling.Step(
        model_name=model,
        model_version=-1,
        input_map={tensor: tensor for tensor in inputs},
        output_map={tensor: tensor for tensor in outputs},
    )


_FILES = triton.ModelInput(name="image_bytes", data_type=triton.TYPE_STRING, dims=[-1])


def _answers(manifest: Manifest) -> list[triton.ModelOutput]:
    """Of any number of images. Triton has no dimension of 0: -1 for the scores of no router."""
    return [
        triton.ModelOutput(
            name=tensor.name,
            data_type=tensor.datatype.config_name,
            dims=[size or -1 for size in tensor.shape],
            label_filename=LABELS_FILE if tensor.name == "probabilities" else "",
        )
        for tensor in answer_tensors(manifest)
    ]


def _pixels(*dims: int) -> dict[str, object]:
    return {"data_type": triton.TYPE_UINT8, "dims": dims}
