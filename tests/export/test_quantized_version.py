"""`ride export --quantize`: what is written, and what is refused."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx import numpy_helper
from rich.console import Console

from export.errors import ExportError
from export.quantization_request import QuantizationRequest, QuantizedPrecision
from export.quantized_version import read_quantization_images
from export.session import export_session
from serving.engine.graphs import load_engine
from serving.model.manifest import Manifest
from serving.model.manifest_json import load_manifest
from serving.model.repository import graph_models
from tests.checkout import ROOT
from tests.fitted_run import DATA, fitted_run
from training.checkpoint import Checkpoint, save_checkpoint
from training.data import ImageSet, Split, read_split
from training.errors import ConfigError

pytestmark = pytest.mark.usefixtures("short_networks")

CONSOLE = Console(quiet=True)
INT8, FP16 = QuantizedPrecision.INT8, QuantizedPrecision.FP16


@pytest.fixture(scope="module")
def three_versions(
    run: Path, repository: Path, cifar10_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One repository: version 1 is fp32, 2 is int8, 3 is fp16."""
    target = shutil.copytree(repository, tmp_path_factory.mktemp("quantised") / "repository")
    for precision in (INT8, FP16):
        request = QuantizationRequest(precision, 100)
        export_session(run, target, data=cifar10_folder, quantize=request, console=CONSOLE)
    return target


def graph(repository: Path, model: str, version: int) -> onnx.ModelProto:
    return onnx.load(repository / model / str(version) / "model.onnx")


def constants(model: onnx.ModelProto) -> list[np.ndarray]:
    return [numpy_helper.to_array(constant) for constant in model.graph.initializer]


@pytest.mark.slow
@pytest.mark.parametrize(("version", "precision"), [(2, "int8"), (3, "fp16")])
def test_the_manifest_says_what_was_measured(
    three_versions: Path, version: int, precision: str
) -> None:
    manifest = load_manifest(three_versions, version)
    assert manifest.precision == precision
    quantization = manifest.quantization
    assert quantization is not None
    assert quantization.measured_on == "30 test images of cifar10"
    assert quantization.images == 30
    assert quantization.max_drop == 1
    assert quantization.routed.before.accuracy.overall > 0.9
    assert quantization.routed.drop < (0.5 if precision == "int8" else 0.05)
    assert quantization.all_experts.before.mean_experts == 2
    calibration = quantization.calibration
    if precision == "int8":
        assert calibration is not None
        assert calibration.images == 40
        assert "left out" in calibration.source
    else:
        assert calibration is None
    assert manifest.thresholds == load_manifest(three_versions, 1).thresholds == (0.5,)


@pytest.mark.slow
def test_the_stated_accuracy_is_that_of_the_server(
    three_versions: Path, cifar10_folder: Path
) -> None:
    test = read_split(cifar10_folder, DATA, Split.TEST)
    assert isinstance(test, ImageSet)
    fp32 = load_engine(three_versions, 1)
    for version in (2, 3):
        engine = load_engine(three_versions, version)
        quantization = engine.manifest.quantization
        assert quantization is not None
        for each, stated in (
            (fp32, quantization.routed.before),
            (engine, quantization.routed.after),
        ):
            routed = each.classify(test.images.numpy(), each.rule())
            right = routed.probabilities.argmax(axis=1) == test.labels.numpy()
            assert right.mean() == stated.accuracy.overall
            assert routed.experts_used.mean() == stated.mean_experts


@pytest.mark.slow
@pytest.mark.parametrize("version", [2, 3])
def test_inputs_and_outputs_stay_as_they_were(three_versions: Path, version: int) -> None:
    def ends(model: str, number: int) -> list[tuple[str, str, list[object]]]:
        session = ort.InferenceSession(three_versions / model / str(number) / "model.onnx")
        tensors = (*session.get_inputs(), *session.get_outputs())
        return [(tensor.name, tensor.type, tensor.shape[1:]) for tensor in tensors]

    for model in graph_models(2):
        assert ends(model, version) == ends(model, 1)


@pytest.mark.slow
def test_int8_weights_have_seven_bits_and_the_sensitive_parts_none(three_versions: Path) -> None:
    """With eight, 16-bit sums of products saturate on a CPU without VNNI."""
    first, classifier, router = (16, 3, 3, 3), (10, 48), ((16, 48), (1, 26))
    for model, kept in (("stage_1", [first, classifier, *router]), ("stage_2", [classifier])):
        whole = constants(graph(three_versions, model, 1))
        small = constants(graph(three_versions, model, 2))
        weights = [each for each in small if each.dtype == np.int8 and each.ndim == 4]
        assert len(weights) == sum(each.ndim == 4 for each in whole) - (first in kept)
        assert max(int(np.abs(each.astype(int)).max()) for each in weights) <= 64
        in_fp32 = [each for each in small if each.dtype == np.float32 and each.ndim in (2, 4)]
        assert sorted(sorted(each.shape) for each in in_fp32) == sorted(map(sorted, kept))


@pytest.mark.slow
def test_fp16_keeps_the_classifier_in_fp32(three_versions: Path) -> None:
    large = [each for each in constants(graph(three_versions, "stage_1", 3)) if each.ndim > 1]
    assert {each.dtype for each in large if each.ndim == 4} == {np.dtype(np.float16)}
    assert {each.dtype for each in large if each.ndim == 2} == {np.dtype(np.float32)}


@pytest.mark.slow
def test_quantised_graphs_are_smaller_and_tell_nothing_of_this_machine(
    three_versions: Path,
) -> None:
    here = str(ROOT).encode()
    for version, most in ((2, 0.5), (3, 0.7)):
        for model in graph_models(2):
            whole = (three_versions / model / "1" / "model.onnx").read_bytes()
            content = (three_versions / model / str(version) / "model.onnx").read_bytes()
            assert len(content) < most * len(whole)
            assert here not in content
            assert str(three_versions.parent).encode() not in content
            onnx.checker.check_model(graph(three_versions, model, version))
    assert [path.name for path in three_versions.parent.iterdir()] == [three_versions.name]
    assert len(list(three_versions.glob("stage_*/*/*"))) == 2 * 3, "one file a graph"


@pytest.mark.slow
def test_a_drop_above_the_limit_is_refused_and_nothing_is_left(
    cifar10_folder: Path, png_column: Callable[[torch.Tensor], pa.StructArray], tmp_path: Path
) -> None:
    """Calibrated on grey images alone, the graphs can't tell colours apart."""
    run, data = tmp_path / "run", shutil.copytree(cifar10_folder, tmp_path / "data")
    run.mkdir()
    save_checkpoint(fitted_run(cifar10_folder, num_experts=1), run)
    labels = pq.read_table(data / "train.parquet")["label"]
    grey = png_column(torch.full((len(labels), 32, 32, 3), 120, dtype=torch.uint8))
    pq.write_table(pa.table({"img": grey, "label": labels}), data / "train.parquet")
    target, request = tmp_path / "exported" / "repository", QuantizationRequest(INT8, 0.5)
    with pytest.raises(ExportError, match=r"int8 loses \S+ points .* at most 0.5 may be lost"):
        export_session(run, target, data=data, quantize=request, console=CONSOLE)
    assert list(target.parent.iterdir()) == []


def test_calibration_images_are_held_out_of_training(
    finished: Checkpoint, cifar10_folder: Path
) -> None:
    test, train = (read_split(cifar10_folder, DATA, split) for split in (Split.TEST, Split.TRAIN))
    images = read_quantization_images(cifar10_folder, finished, test, INT8).calibration
    assert isinstance(images, ImageSet)
    assert isinstance(train, ImageSet)
    drawn = {image.numpy().tobytes() for image in images.images}
    assert len(drawn) == 40
    assert not drawn & {image.numpy().tobytes() for image in train.images}
    assert read_quantization_images(cifar10_folder, finished, test, FP16).calibration is None


def test_a_run_without_held_out_images_cannot_be_calibrated(
    finished: Checkpoint, cifar10_folder: Path, tmp_path: Path
) -> None:
    everything = replace(finished.config, data=replace(DATA, imbalance_factor=None))
    run, target = tmp_path / "run", tmp_path / "exported" / "repository"
    run.mkdir()
    save_checkpoint(replace(finished, config=everything), run)
    request = QuantizationRequest(INT8, 0.5)
    with pytest.raises(ConfigError, match="set a holdout"):
        export_session(run, target, data=cifar10_folder, quantize=request, console=CONSOLE)
    assert not target.parent.exists()


@pytest.mark.parametrize("drop", [-0.1, 100.1, math.nan, math.inf])
def test_an_impossible_limit_is_refused(drop: float) -> None:
    with pytest.raises(ExportError, match="must lie between 0 and 100 points"):
        QuantizationRequest(INT8, drop)


def test_the_command_line_says_what_quantisation_needs(
    run: Path,
    tmp_path: Path,
    call_ride: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    target = tmp_path / "target"
    for flags, problem in (
        (("--quantize", "int8"), "--quantize needs the data set"),
        (("--quantize", "fp16", "--data", tmp_path / "gone"), "there is no data folder"),
        (("--quantize", "int8", "--max-accuracy-drop", "nan"), "between 0 and 100 points"),
        (("--max-accuracy-drop", "1"), "--max-accuracy-drop belongs to --quantize"),
    ):
        done = call_ride("export", run, target, *flags)
        assert done.returncode == 1, done.stdout
        assert done.stderr.startswith("ride: ")
        assert problem in done.stderr.replace("\n", " ")
    assert not target.exists()


def test_an_fp32_export_says_so(repository: Path) -> None:
    manifest: Manifest = load_manifest(repository, 1)
    assert (manifest.precision, manifest.quantization) == ("fp32", None)
    assert manifest.schema_version == 4
