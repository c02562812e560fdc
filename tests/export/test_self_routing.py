"""One graph answers what the routing algorithm answers, whatever the model and the wishes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from export.graphs import split_model, write_graph
from export.self_routing import MAX_EXPERTS, THRESHOLDS, SelfRouting
from serving.engine.graphs import Engine
from serving.engine.provider import Provider
from serving.engine.sessions import open_session
from serving.model.manifest import ImageSpec
from serving.model.routing import (
    Routed,
    RoutingRule,
    RoutingState,
    StageCall,
    StageOutput,
    route_rows,
)
from tests.export.random_models import SIDE, RandomModel, random_model
from training.choices import RouterKind
from training.config import ModelConfig
from training.model import RideModel

shares = st.floats(0, 1, width=32)


@st.composite
def models(draw: st.DrawFn, least_experts: int = 1) -> RandomModel:
    experts = draw(st.integers(least_experts, 6))
    thresholds = tuple(draw(st.lists(shares, min_size=experts - 1, max_size=experts - 1)))
    return random_model(experts, draw(st.integers(2, 5)), thresholds, draw(st.integers(0, 99)))


def pictures(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, SIDE, SIDE, 3), dtype=np.uint8)


def answers(model: RandomModel, feeds: dict[str, np.ndarray]) -> Routed:
    graph = SelfRouting(model.stages, model.engine.manifest).compile(1)
    session = open_session(graph.SerializeToString(), Provider.CPU)
    return Routed(*session.run(["probabilities", "experts_used", "router_scores"], feeds))


def routed(engine: Engine, images: np.ndarray, rules: list[RoutingRule]) -> Routed:
    """What `serving.model.routing` says of rows with a rule each."""
    manifest = engine.manifest
    state = RoutingState.start(rules, manifest.num_experts, manifest.num_classes)
    features: dict[int, np.ndarray] = {}

    def run_stage(call: StageCall) -> StageOutput:
        source = images if call.stage == 1 else features[0]
        run = engine.run_stage(call, source[call.rows])
        if call.stage == 1:
            assert isinstance(run.features, np.ndarray)
            features[0] = run.features
        return run.output

    route_rows(state, run_stage)
    return state.answers()


def require_same(found: Routed, expected: Routed) -> None:
    assert found.experts_used.tolist() == expected.experts_used.tolist()
    assert found.experts_used.dtype == np.int32
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(found.router_scores, expected.router_scores, atol=1e-6)


@given(models(), st.integers(1, 9))
@settings(max_examples=30)
def test_without_wishes_the_models_own_rule_holds(model: RandomModel, rows: int) -> None:
    images = pictures(rows)
    expected = model.engine.classify(images, model.engine.rule())
    require_same(answers(model, {"image": images}), expected)


@given(models(least_experts=2), st.data())
@settings(max_examples=60)
def test_each_row_has_a_rule_of_its_own(model: RandomModel, data: st.DataObject) -> None:
    manifest = model.engine.manifest
    thresholds = st.tuples(*[shares] * (manifest.num_experts - 1))
    rule = st.builds(
        RoutingRule,
        thresholds,
        st.integers(1, manifest.num_experts),
        st.just(manifest.prefix_corrections),
    )
    rules = data.draw(st.lists(rule, min_size=1, max_size=8))
    images = pictures(len(rules))
    found = answers(
        model,
        {
            "image": images,
            THRESHOLDS: np.array([each.thresholds for each in rules], np.float32),
            MAX_EXPERTS: np.array([[each.max_experts] for each in rules], np.int32),
        },
    )
    require_same(found, routed(model.engine, images, rules))


@given(models(least_experts=2), shares, st.integers(1, 6), st.integers(1, 9))
@settings(max_examples=30)
def test_one_rule_may_be_for_all_rows(
    model: RandomModel, threshold: float, most: int, rows: int
) -> None:
    routers = model.engine.manifest.num_experts - 1
    rule = model.engine.rule(min(most, routers + 1), threshold)
    images = pictures(rows)
    found = answers(model, wish([threshold] * routers, most, images))
    require_same(found, model.engine.classify(images, rule))


def wish(thresholds: list[float], max_experts: int, images: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "image": images,
        THRESHOLDS: np.array([thresholds], np.float32),
        MAX_EXPERTS: np.array([[max_experts]], np.int32),
    }


@pytest.mark.parametrize(
    ("thresholds", "most", "as_if"),
    [
        ([-1, 2], 3, ([0, 1], 3)),
        ([float("inf"), -float("inf")], 3, ([1, 0], 3)),
        ([float("nan"), float("nan")], 3, ([0.4, 0.6], 3)),
        ([0.1, 0.1], 0, ([0.1, 0.1], 1)),
        ([0.1, 0.1], -7, ([0.1, 0.1], 1)),
        ([0.1, 0.1], 4, ([0.1, 0.1], 3)),
    ],
)
def test_what_no_rule_may_be_becomes_what_lies_nearest(
    thresholds: list[float], most: int, as_if: tuple[list[float], int]
) -> None:
    model, images = random_model(3, 4, (0.4, 0.6), 1), pictures(9)
    expected = answers(model, wish(*as_if, images))
    require_same(answers(model, wish(thresholds, most, images)), expected)


def test_no_rows_have_no_answers() -> None:
    found = answers(random_model(3, 4, (0.4, 0.6), 1), {"image": pictures(0)})
    assert [found.probabilities.shape, found.router_scores.shape] == [(0, 4), (0, 2)]
    assert found.experts_used.shape == (0,)


@pytest.mark.parametrize(
    "feeds",
    [
        {"image": pictures(2)[:, :3]},
        {"image": pictures(2).astype(np.float32)},
        {"image": pictures(2)[0]},
        wish([0.5], 3, pictures(2)),
        {"image": pictures(3), THRESHOLDS: np.zeros((2, 2), np.float32)},
        {"image": pictures(3), MAX_EXPERTS: np.ones((2, 1), np.int32)},
        {"image": pictures(3), MAX_EXPERTS: np.ones((1, 1), np.int64)},
        {THRESHOLDS: np.zeros((1, 2), np.float32)},
    ],
)
def test_tensors_of_other_shapes_and_types_are_refused(feeds: dict[str, np.ndarray]) -> None:
    with pytest.raises(Exception, match=r"(?i)invalid|dimension|type|required|shape"):
        answers(random_model(3, 4, (0.4, 0.6), 1), feeds)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_stages_that_no_row_needs_do_not_run(most: int, tmp_path: Path) -> None:
    model = random_model(3, 4, (0.0, 0.0), 1)
    path = tmp_path / "model.onnx"
    onnx.save(SelfRouting(model.stages, model.engine.manifest).compile(1), path)
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    session.run(None, wish([0, 0], most, pictures(5)))
    ran = {event["name"] for event in json.loads(Path(session.end_profiling()).read_text())}
    stages = [any(name.startswith(f"stage_{stage}.logits") for name in ran) for stage in (2, 3)]
    assert stages == [most >= 2, most >= 3]


def test_the_file_is_enough_to_answer_with_words() -> None:
    model = random_model(3, 4, (0.4, 0.6), 1)
    graph = SelfRouting(model.stages, model.engine.manifest).compile(7)
    facts = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
    assert facts["class_names"] == ["class 0", "class 1", "class 2", "class 3"]
    assert facts["image"] == {
        "height": 4,
        "width": 4,
        "resize_shorter_side": 4,
        "interpolation": "bilinear",
    }
    assert (facts["ride_version"], graph.model_version) == (7, 7)


@pytest.mark.parametrize("experts", range(1, 7))
def test_checker_and_shape_inference_accept_it(experts: int) -> None:
    model = random_model(experts, 3, (0.5,) * (experts - 1), 1)
    graph = SelfRouting(model.stages, model.engine.manifest).compile(1)
    onnx.checker.check_model(graph, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
    assert [output.name for output in inferred.graph.output] == [
        "probabilities",
        "experts_used",
        "router_scores",
    ]


@pytest.mark.usefixtures("short_networks")
@pytest.mark.parametrize("kind", RouterKind)
def test_every_router_decides_as_in_its_stages(kind: RouterKind, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(num_classes=10, num_experts=2, router_kind=kind)
    stages, sessions = [], {}
    for graph in split_model(RideModel(config).eval(), 8):
        path = tmp_path / f"{graph.name}.onnx"
        write_graph(graph, path)
        stages.append(onnx.load(path))
        sessions[graph.name] = open_session(path.read_bytes(), Provider.CPU)
    small = random_model(2, 10, (0.5,), 1).engine.manifest
    spec = ImageSpec(8, 8, 8, "bilinear")
    manifest = replace(small, image=spec, corrections=())
    model = RandomModel(stages, Engine(manifest, 1, sessions))
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    scores = model.engine.classify(images, model.engine.rule(threshold=0)).router_scores
    thresholds = np.median(scores, axis=0)  # half of them go on
    found = answers(model, wish(thresholds.tolist(), 2, images))
    rule = RoutingRule(tuple(thresholds.tolist()), 2)
    require_same(found, model.engine.classify(images, rule))
