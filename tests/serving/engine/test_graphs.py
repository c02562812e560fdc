"""The engine on the bundled model's own graphs, and repositories that must not be served."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from serving.engine.graphs import Engine, load_engine
from serving.errors import InvalidRequest, ModelRepositoryError
from serving.model.repository import latest_version, manifest_path
from serving.model.routing import Routed, RoutingRule

Pixels = NDArray[np.uint8]
NEAR = 1e-4


def assert_same(first: Routed, second: Routed, rule: RoutingRule) -> None:
    """Equal up to rounding; a row with a score near its threshold may take another number."""
    thresholds = np.array(rule.thresholds, dtype=np.float32)
    distance = np.abs(np.stack([first.router_scores, second.router_scores]) - thresholds)
    clear = ~(distance <= NEAR).any(axis=(0, 2))
    assert clear.any()
    np.testing.assert_array_equal(first.experts_used[clear], second.experts_used[clear])
    np.testing.assert_allclose(
        first.probabilities[clear], second.probabilities[clear], rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(
        first.router_scores[clear], second.router_scores[clear], rtol=0, atol=1e-5
    )


def take(routed: Routed, rows: NDArray[np.intp]) -> Routed:
    return Routed(routed.probabilities[rows], routed.experts_used[rows], routed.router_scores[rows])


@pytest.fixture(scope="module")
def mixed(engine: Engine, middle_threshold: float) -> RoutingRule:
    """A rule under which the pictures take different numbers of experts."""
    return engine.rule(threshold=middle_threshold)


def test_the_pictures_are_routed_differently(
    engine: Engine, pixels: Pixels, mixed: RoutingRule
) -> None:
    assert len(set(engine.classify(pixels, mixed).experts_used.tolist())) > 1


def test_an_answer_does_not_depend_on_the_batch(
    engine: Engine, pixels: Pixels, mixed: RoutingRule
) -> None:
    together = engine.classify(pixels, mixed)
    for size in (1, 5, 16):
        for start in range(0, len(pixels), size):
            rows = np.arange(start, min(start + size, len(pixels)))
            assert_same(engine.classify(pixels[rows], mixed), take(together, rows), mixed)


def test_permuting_pictures_permutes_answers(
    engine: Engine, pixels: Pixels, mixed: RoutingRule
) -> None:
    order = np.random.default_rng(1).permutation(len(pixels))
    straight = engine.classify(pixels, mixed)
    assert_same(engine.classify(pixels[order], mixed), take(straight, order), mixed)


def test_the_answer_is_the_softmax_of_the_mean_of_the_experts_used(
    engine: Engine, pixels: Pixels, mixed: RoutingRule
) -> None:
    routed = engine.classify(pixels, mixed)
    logits = np.stack([step.run.output.logits for step in engine.every_stage(pixels)])
    for row, used in enumerate(routed.experts_used):
        mean = logits[:used, row].astype(np.float64).mean(axis=0)
        if mixed.corrections is not None:
            mean += mixed.corrections[used - 1]
        powers = np.exp(mean - mean.max())
        np.testing.assert_allclose(routed.probabilities[row], powers / powers.sum(), atol=1e-5)


def test_a_picture_goes_on_where_its_score_is_above_the_threshold(
    engine: Engine, pixels: Pixels, mixed: RoutingRule
) -> None:
    routed = engine.classify(pixels, mixed)
    for scores, used in zip(routed.router_scores, routed.experts_used, strict=True):
        asked = scores[~np.isnan(scores)]
        assert len(asked) == min(used, engine.manifest.num_experts - 1)
        above = asked > np.float32(mixed.thresholds[0])
        assert above.tolist() == [i < used for i in range(1, len(asked) + 1)]


def test_threshold_one_stops_after_one_expert_and_threshold_zero_takes_all(
    engine: Engine, pixels: Pixels
) -> None:
    assert set(engine.classify(pixels, engine.rule(threshold=1.0)).experts_used) == {1}
    assert set(engine.classify(pixels, engine.rule(threshold=0.0)).experts_used) == {
        engine.manifest.num_experts
    }


def test_max_experts_bounds_what_an_image_takes(engine: Engine, pixels: Pixels) -> None:
    for most in range(1, engine.manifest.num_experts + 1):
        routed = engine.classify(pixels, engine.rule(threshold=0.0, max_experts=most))
        assert set(routed.experts_used) == {most}
        assert np.isnan(routed.router_scores[:, most - 1 :]).all()


def test_a_rule_without_wishes_is_the_manifests(engine: Engine) -> None:
    rule = engine.rule()
    assert rule.thresholds == engine.manifest.thresholds
    assert rule.max_experts == engine.manifest.num_experts


@pytest.mark.parametrize(
    "wish",
    [
        {"max_experts": 0},
        {"max_experts": 4},
        {"threshold": -0.1},
        {"threshold": 1.1},
        {"threshold": float("nan")},
    ],
)
def test_a_wish_out_of_range_is_refused(engine: Engine, wish: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=f"{next(iter(wish))} must lie between"):
        engine.rule(**wish)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 32, 32, 3), dtype=np.uint8),
        np.zeros((32, 32, 3), dtype=np.uint8),
        np.zeros((1, 3, 32, 32), dtype=np.uint8),
        np.zeros((1, 32, 31, 3), dtype=np.uint8),
        np.zeros((1, 32, 32, 1), dtype=np.uint8),
        np.zeros((1, 32, 32, 3), dtype=np.float32),
        np.zeros((1, 32, 32, 3), dtype=np.int64),
        np.uint8(0),
    ],
)
def test_a_tensor_of_another_shape_or_type_is_refused(engine: Engine, images: Any) -> None:
    with pytest.raises(InvalidRequest, match="images must"):
        engine.classify(np.asarray(images), engine.rule())


def test_corrections_of_the_manifest_change_the_answer(
    engine: Engine, repository_copy: Path, pixels: Pixels
) -> None:
    experts = engine.manifest.num_experts
    rows = [[0.0] * engine.manifest.num_classes for _ in range(experts)]
    rows[-1][17] = 1_000.0
    change_manifest(repository_copy, lambda manifest: manifest.update(corrections=rows))
    corrected = load_engine(repository_copy)
    every = corrected.classify(pixels, corrected.rule(threshold=0.0))
    assert set(every.probabilities.argmax(axis=1)) == {17}
    fewer = corrected.rule(threshold=0.0, max_experts=experts - 1)
    np.testing.assert_allclose(
        corrected.classify(pixels, fewer).probabilities,
        engine.classify(pixels, replace(fewer, corrections=None)).probabilities,
        atol=1e-5,
    )


def change_manifest(repository: Path, alter: Callable[[dict[str, Any]], object]) -> None:
    path = manifest_path(repository, latest_version(repository))
    manifest = json.loads(path.read_text())
    alter(manifest)
    path.write_text(json.dumps(manifest))


def graph_file(repository: Path, name: str) -> Path:
    return repository / name / str(latest_version(repository)) / "model.onnx"


def replace_graph(repository: Path, name: str, content: bytes) -> None:
    """Put another graph in place, with the checksum that goes with it."""
    file = graph_file(repository, name)
    file.write_bytes(content)
    path = file.relative_to(repository).as_posix()
    digest = hashlib.sha256(content).hexdigest()
    change_manifest(repository, lambda manifest: manifest["graphs"].update({path: digest}))


def constant_graph(inputs: dict[str, int], outputs: dict[str, NDArray[Any]]) -> bytes:
    """A graph of inputs of some rank whose outputs are the same whatever goes in."""
    named = [
        onnx.helper.make_tensor_value_info(
            name,
            onnx.TensorProto.UINT8 if name == "image" else onnx.TensorProto.FLOAT,
            [None] * rank,
        )
        for name, rank in inputs.items()
    ]
    nodes = [
        onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(value))
        for name, value in outputs.items()
    ]
    results = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in outputs.items()
    ]
    graph = onnx.helper.make_graph(nodes, "constant", named, results)
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def test_the_copy_of_a_good_repository_loads(repository_copy: Path) -> None:
    assert load_engine(repository_copy).version == latest_version(repository_copy)


def test_the_latest_version_is_loaded_unless_another_is_named(repository_copy: Path) -> None:
    for model in repository_copy.iterdir():
        shutil.copytree(model / "1", model / "2")
    change_manifest(
        repository_copy,
        lambda manifest: manifest.update(
            graphs={
                path.replace("/1/", "/2/"): digest for path, digest in manifest["graphs"].items()
            }
        ),
    )
    assert load_engine(repository_copy).version == 2
    assert load_engine(repository_copy, 1).version == 1


def test_every_missing_graph_is_named(repository_copy: Path, engine: Engine) -> None:
    for name in engine.sessions:
        file = graph_file(repository_copy, name)
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(ModelRepositoryError, match=f"{name}/1/model.onnx can't be read"):
            load_engine(repository_copy)
        file.write_bytes(content)


def test_one_altered_byte_in_any_graph_is_found(repository_copy: Path, engine: Engine) -> None:
    for name in engine.sessions:
        file = graph_file(repository_copy, name)
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(ModelRepositoryError, match=f"{name}/1/model.onnx was altered"):
            load_engine(repository_copy)
        file.write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x00" * 1000])
def test_a_file_that_is_no_graph_is_named(repository_copy: Path, content: bytes) -> None:
    replace_graph(repository_copy, "stage_2", content)
    with pytest.raises(ModelRepositoryError, match=r"stage_2/1/model.onnx (is not a|must have)"):
        load_engine(repository_copy)


def test_a_graph_with_other_inputs_and_outputs_is_named(repository_copy: Path) -> None:
    replace_graph(repository_copy, "stage_2", graph_file(repository_copy, "stage_3").read_bytes())
    with pytest.raises(
        ModelRepositoryError,
        match=r"stage_2/1/model.onnx must have inputs \['features', 'prefix_sum'\] and outputs "
        r"\['embedding', 'logits', 'score'\], not \['features'\] and",
    ):
        load_engine(repository_copy)


def test_class_names_that_do_not_fit_the_logits_are_found(repository_copy: Path) -> None:
    def drop_last_class(manifest: dict[str, Any]) -> None:
        manifest["class_names"].pop()
        manifest["class_counts"].pop()
        manifest["corrections"] = []

    change_manifest(repository_copy, drop_last_class)
    with pytest.raises(
        ModelRepositoryError,
        match=r"manifest.json in .* do not fit together: .* stage_1 .*\[1, 100\].*\[1, 99\]",
    ):
        load_engine(repository_copy)


def test_an_image_size_that_does_not_fit_the_graph_is_found(repository_copy: Path) -> None:
    size = {"height": 31, "width": 31, "resize_shorter_side": 31, "interpolation": "bilinear"}
    change_manifest(repository_copy, lambda manifest: manifest.update(image=size))
    with pytest.raises(ModelRepositoryError, match=r"do not fit together: .* stage_1 failed"):
        load_engine(repository_copy)


@pytest.mark.parametrize(
    ("logits", "sentence"),
    [
        (np.zeros((1, 1), dtype=np.float32), r"shape \[1, 1\] instead of"),
        (np.zeros(100, dtype=np.float32), r"shape \[100\] instead of"),
        (np.zeros((1, 100), dtype=np.float32), r"shape \[1, 100\] instead of .*\[2, 100\]"),
        (np.zeros((1, 100), dtype=np.float64), "float64"),
        (np.full((1, 100), np.nan, dtype=np.float32), "not numbers"),
    ],
)
def test_a_stage_whose_logits_do_not_fit_is_found(
    repository_copy: Path, logits: NDArray[Any], sentence: str
) -> None:
    embedding = np.zeros((1, 48), dtype=np.float32)
    graph = constant_graph({"features": 4}, {"logits": logits, "embedding": embedding})
    replace_graph(repository_copy, "stage_3", graph)
    with pytest.raises(ModelRepositoryError, match=f"stage_3 gives .*{sentence}"):
        load_engine(repository_copy)


@pytest.mark.parametrize(
    ("output", "tensor", "sentence"),
    [
        ("score", np.zeros((1, 1), dtype=np.float32), r"score .*shape \[1, 1\]"),
        ("score", np.full(1, np.nan, dtype=np.float32), "not numbers"),
        ("features", np.zeros((2, 16, 32, 32), dtype=np.float32), r"features .*shape \[2,"),
        ("features", np.zeros((1, 16, 32, 32), dtype=np.float64), "features .*float64"),
    ],
)
def test_scores_and_features_that_do_not_fit_are_found(
    repository_copy: Path, output: str, tensor: NDArray[Any], sentence: str
) -> None:
    shapes = {"features": (1, 16, 32, 32), "logits": (1, 100), "embedding": (1, 48), "score": (1,)}
    outputs: dict[str, NDArray[Any]] = {
        name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()
    }
    graph = constant_graph({"image": 4}, {**outputs, output: tensor})
    replace_graph(repository_copy, "stage_1", graph)
    with pytest.raises(ModelRepositoryError, match=f"stage_1 gives .*{sentence}"):
        load_engine(repository_copy)
