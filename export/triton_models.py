"""The models around the graphs in Triton: what clients call, and the Python models behind that.

    ride        = ride_routing
    ride_image  = ride_decoding, then ride_routing

`ride` and `ride_image` are ensembles, which are only configuration: so clients see the names and
shapes of the embedded server (`experts_used` is [N]), and Triton still makes batches of several
requests for `ride_routing` (whose tensors would need a second dimension if clients saw them).
"""

from __future__ import annotations

from pathlib import Path

from tritonclient.grpc import model_config_pb2 as triton

from export.config_pbtxt import CONFIG_FILE, as_text, instance_group, latest
from export.placement import Placement, Target
from serving.in_triton import MAX_BATCH_SIZE
from serving.manifest import IMAGE_MODEL_NAME, MODEL_NAME, Manifest
from serving.scheduler import DEFAULT_PRIORITY
from serving.urgency import LAST_PRIORITY

ROUTING_MODEL, DECODING_MODEL = "ride_routing", "ride_decoding"
TRITON_MODELS = (ROUTING_MODEL, DECODING_MODEL, IMAGE_MODEL_NAME)
"""Folders of their own, besides that of `ride`, where the manifest lies."""

_MOST_WAITING = 4_096
_KEEP = ".keep"
"""An ensemble's version is a folder without a file, which git would not keep."""

_MODEL_PY = '''"""`{name}` in Triton's Python backend: serving/in_triton/{module}.py."""

import sys
from pathlib import Path

try:
    import serving.in_triton
except ModuleNotFoundError:  # not installed in Triton's Python: perhaps this is in a checkout
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from serving.in_triton.{module} import {model} as TritonPythonModel  # noqa: E402, F401
'''


def write_triton_models(
    directory: Path, manifest: Manifest, version: int, placement: Placement
) -> None:
    """Write them into a repository's folder, beside the graphs and the manifest."""
    for config in (
        _routing(manifest, placement),
        _decoding(manifest, placement),
        _ensemble(MODEL_NAME, _image(manifest), manifest, [ROUTING_MODEL]),
        _ensemble(IMAGE_MODEL_NAME, _FILES, manifest, [DECODING_MODEL, ROUTING_MODEL]),
    ):
        folder = directory / config.name / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        (folder.parent / CONFIG_FILE).write_text(as_text(config))
    _write_model_py(directory, version, ROUTING_MODEL, "routing_model", "RoutingModel")
    _write_model_py(directory, version, DECODING_MODEL, "decoding_model", "DecodingModel")
    (directory / IMAGE_MODEL_NAME / str(version) / _KEEP).touch()


def _write_model_py(directory: Path, version: int, name: str, module: str, model: str) -> None:
    text = _MODEL_PY.format(name=name, module=module, model=model)
    (directory / name / str(version) / "model.py").write_text(text)


def _routing(manifest: Manifest, placement: Placement) -> triton.ModelConfig:
    """Batches of several requests: dimensions are those of one image."""
    gpu = placement.target is not Target.CPU
    spec = manifest.image
    return triton.ModelConfig(
        name=ROUTING_MODEL,
        backend="python",
        max_batch_size=MAX_BATCH_SIZE,
        version_policy=latest(1),
        input=[_input("image", triton.TYPE_UINT8, spec.height, spec.width, 3)],
        output=[
            _output("probabilities", triton.TYPE_FP32, manifest.num_classes),
            # One number an image: [N]. Triton has no name for that shape, and passes it on as is.
            _output("experts_used", triton.TYPE_INT32, 1),
            _output("router_scores", triton.TYPE_FP32, manifest.num_experts - 1),
        ],
        instance_group=[instance_group(placement.instances, gpu=gpu)],
        dynamic_batching=triton.ModelDynamicBatching(
            priority_levels=LAST_PRIORITY,
            default_priority_level=DEFAULT_PRIORITY,
            default_queue_policy=triton.ModelQueuePolicy(
                timeout_action=triton.ModelQueuePolicy.REJECT,
                allow_timeout_override=True,
                max_queue_size=_MOST_WAITING,
            ),
        ),
    )


def _decoding(manifest: Manifest, placement: Placement) -> triton.ModelConfig:
    return triton.ModelConfig(
        name=DECODING_MODEL,
        backend="python",
        version_policy=latest(1),
        input=[_FILES],
        output=[triton.ModelOutput(name="image", **_same(_image(manifest)))],
        instance_group=[instance_group(placement.instances)],
    )


def _ensemble(
    name: str, given: triton.ModelInput, manifest: Manifest, steps: list[str]
) -> triton.ModelConfig:
    answers = [
        _output("probabilities", triton.TYPE_FP32, -1, manifest.num_classes),
        _output("experts_used", triton.TYPE_INT32, -1),
        _output("router_scores", triton.TYPE_FP32, -1, manifest.num_experts - 1),
    ]
    step = {
        DECODING_MODEL: _step(DECODING_MODEL, ["image_bytes"], ["image"]),
        ROUTING_MODEL: _step(ROUTING_MODEL, ["image"], [answer.name for answer in answers]),
    }
    return triton.ModelConfig(
        name=name,
        platform="ensemble",
        version_policy=latest(1),
        input=[given],
        output=answers,
        ensemble_scheduling=triton.ModelEnsembling(step=[step[model] for model in steps]),
    )


def _step(model: str, inputs: list[str], outputs: list[str]) -> triton.ModelEnsembling.Step:
    return triton.ModelEnsembling.Step(
        model_name=model,
        model_version=-1,
        input_map={tensor: tensor for tensor in inputs},
        output_map={tensor: tensor for tensor in outputs},
    )


_FILES = triton.ModelInput(name="image_bytes", data_type=triton.TYPE_STRING, dims=[-1])


def _image(manifest: Manifest) -> triton.ModelInput:
    spec = manifest.image
    return _input("image", triton.TYPE_UINT8, -1, spec.height, spec.width, 3)


def _input(name: str, datatype: int, *dims: int) -> triton.ModelInput:
    return triton.ModelInput(name=name, data_type=datatype, dims=dims)


def _output(name: str, datatype: int, *dims: int) -> triton.ModelOutput:
    return triton.ModelOutput(name=name, data_type=datatype, dims=dims)


def _same(tensor: triton.ModelInput) -> dict[str, object]:
    return {"data_type": tensor.data_type, "dims": tensor.dims}
