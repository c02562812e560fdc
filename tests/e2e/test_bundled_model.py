"""The bundled model, as a user gets it, on real images."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from serving.model.manifest import GEARS, Manifest
from serving.model.manifest_json import load_manifest
from serving.model.repository import latest_version
from tests.checkout import ROOT
from tests.running.server import RunningServer
from training.checkpoint import load_checkpoint

REPOSITORY = ROOT / "model_repository"
CHECKPOINT = ROOT / "checkpoints" / "cifar100-lt"
TEST_IMAGES = ROOT / "tests" / "data" / "cifar100"
EXAMPLES = sorted((ROOT / "examples").glob("*.png"))


def classify(server: RunningServer, images: Sequence[tuple[str, bytes]]) -> list[dict[str, Any]]:
    files = [("file", image) for image in images]
    response = server.post("/v1/classify", files=files)
    response.raise_for_status()
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def true_label(example: Path) -> str:
    """`maple_tree-many.png` shows a maple_tree."""
    return example.stem.rpartition("-")[0]


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load_manifest(REPOSITORY, latest_version(REPOSITORY))


@dataclass(frozen=True)
class Evaluated:
    """What `ride evaluate` says of 1,000 real test images, ten of each class, and of each."""

    summary: dict[str, Any]
    images: list[dict[str, Any]]


@pytest.fixture(scope="module")
def evaluated(
    run_ride: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Evaluated:
    table = tmp_path_factory.mktemp("evaluated") / "predictions.parquet"
    flags = ("--data", TEST_IMAGES, "--predictions", table, "--no-save", "--json")
    done = run_ride("evaluate", CHECKPOINT, *flags)
    assert done.returncode == 0
    return Evaluated(json.loads(done.stdout), pq.read_table(table).to_pylist())


@pytest.mark.slow
def test_scoring_reproduces_evaluate(
    evaluated: Evaluated,
    call_ride: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    flags = ("--labels", "fine_label", "--output", tmp_path / "scores", "--json", "-")
    done = call_ride("score", TEST_IMAGES / "test.parquet", *flags)
    found, routed = json.loads(done.stdout), evaluated.summary["routed"]
    for group, share in routed["accuracy"].items():
        assert found["accuracy"][group] == share, group
    assert found["mean_experts"] == routed["mean_experts"]
    assert found["mean_multiply_adds"] == pytest.approx(routed["mean_multiply_adds"])
    (part,) = (tmp_path / "scores").glob("parts/part-*.parquet")
    rows = pq.read_table(part).to_pylist()
    assert [(row["index"], row["true_index"], row["experts_used"]) for row in rows] == [
        (image["predicted"], image["label"], image["experts_used"]) for image in evaluated.images
    ]


@pytest.mark.slow
def test_served_predictions_equal_those_of_evaluate(
    server: RunningServer, evaluated: Evaluated
) -> None:
    """Image by image."""
    expected = evaluated.images
    images = pq.read_table(TEST_IMAGES / "test.parquet")["img"].to_pylist()
    answers = classify(server, [(str(i), image["bytes"]) for i, image in enumerate(images)])
    assert len(expected) == len(answers) == 1_000
    assert [
        (answer["labels"][0]["index"], answer["experts_used"], len(answer["router_scores"]))
        for answer in answers
    ] == [
        (row["predicted"], row["experts_used"], sum(s is not None for s in row["router_scores"]))
        for row in expected
    ]
    assert [answer["labels"][0]["probability"] for answer in answers] == pytest.approx(
        [row["probability"] for row in expected], abs=1e-4
    )
    assert {answer["experts_used"] for answer in answers} == {1, 2, 3}


def test_most_examples_get_their_right_label(server: RunningServer) -> None:
    answers = classify(server, [(path.name, path.read_bytes()) for path in EXAMPLES])
    right = [
        answer["labels"][0]["label"] == true_label(path)
        for answer, path in zip(answers, EXAMPLES, strict=True)
    ]
    assert len(right) >= 8
    assert sum(right) > len(right) / 2


def test_examples_come_from_every_shot_group(manifest: Manifest) -> None:
    counts = dict(zip(manifest.class_names, manifest.class_counts, strict=True))
    groups = {
        "many": lambda count: count > 100,
        "medium": lambda count: 20 <= count <= 100,
        "few": lambda count: count < 20,
    }
    for example in EXAMPLES:
        group = example.stem.rpartition("-")[2]
        assert groups[group](counts[true_label(example)]), example.name
    assert {example.stem.rpartition("-")[2] for example in EXAMPLES} == set(groups)


def test_the_readme_states_what_the_manifest_measured(manifest: Manifest) -> None:
    readme = (ROOT / "README.md").read_text()
    for name, key in (("routed", "routed"), ("all three experts", "all_experts")):
        result = manifest.evaluation[key]
        accuracy = result["accuracy"]
        numbers = [f"{100 * accuracy[group]:.1f}" for group in ("overall", "many", "medium", "few")]
        numbers += [f"{result['mean_experts']:.2f}", f"{result['mean_multiply_adds'] / 1e6:.1f}"]
        row = next(line for line in readme.splitlines() if line.startswith(f"| {name} |"))
        assert re.findall(r"\d+\.\d+", row) == numbers


def test_the_readme_shows_the_answer_that_the_server_gives(server: RunningServer) -> None:
    readme = (ROOT / "README.md").read_text()
    shown = json.loads(re.findall(r"```json\n(.*?)```", readme, re.DOTALL)[0])
    example = re.findall(r"--data-binary @(\S+) '\S+(/v1/\S+)'", readme)[0]
    answer = server.post(example[1], content=(ROOT / example[0]).read_bytes()).json()
    probabilities = [label.pop("probability") for label in answer["results"][0]["labels"]]
    assert probabilities == pytest.approx(
        [label.pop("probability") for label in shown["results"][0]["labels"]], abs=1e-4
    )
    scores = answer["results"][0].pop("router_scores")
    assert scores == pytest.approx(shown["results"][0].pop("router_scores"), abs=1e-4)
    assert answer == shown


def test_the_manifest_belongs_to_the_checkpoint(manifest: Manifest) -> None:
    evaluation = json.loads((CHECKPOINT / "evaluation.json").read_text())
    assert manifest.evaluation == evaluation
    assert manifest.evaluation["images"] == 10_000


def test_the_bundled_model_has_the_gears_of_the_checkpoint(
    server: RunningServer, manifest: Manifest
) -> None:
    assert manifest.gears == load_checkpoint(CHECKPOINT).gears
    assert set(manifest.gears) == set(GEARS)
    image = EXAMPLES[0].read_bytes()
    for gear in GEARS:
        assert server.post("/v1/classify", content=image, params={"quality": gear}).is_success
