"""The command from its flags to its summary: counts, accuracy, budgets, what is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from scoring.budget import solve_budget
from scoring.inputs.opening import open_inputs
from scoring.request import KeptFields, Routing, ScoringRequest
from serving.engine.graphs import Engine
from serving.model.routing import Routed
from tests.scoring.conftest import assert_answers

Score = Callable[..., pa.Table]
Ride = Callable[..., subprocess.CompletedProcess[str]]


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "_summary.json").read_bytes())
    return found


def test_the_summary_counts_what_the_rows_say(
    call_ride: Ride, tmp_path: Path, picture_parquet: Path, expected: Routed, engine: Engine
) -> None:
    flags = ("--output", tmp_path / "out", "--labels", "class", "--json", "-", "--part-rows", 10)
    printed = call_ride("score", picture_parquet, *flags)
    found, costs = json.loads(printed.stdout), engine.manifest.multiply_adds
    assert found == summary_of(tmp_path / "out")
    used = expected.experts_used
    asked = np.isfinite(expected.router_scores).sum(axis=1)
    spent = [costs.spent(int(e), int(r)) for e, r in zip(used, asked, strict=True)]
    assert found["images"] == found["answered"] == 48
    assert found["mean_experts"] == pytest.approx(used.mean())
    assert found["experts_used"] == np.bincount(used, minlength=4)[1:].tolist()
    assert found["compute_avoided"] == pytest.approx(1 - np.mean(spent) / costs.all_experts)
    assert found["images_per_second"] > 0
    predicted = expected.probabilities.argmax(axis=1)
    names = np.array(engine.manifest.class_names)[predicted].tolist()
    assert found["labels"] == {name: names.count(name) for name in names}
    right = predicted == np.arange(48)
    assert found["accuracy"]["overall"] == pytest.approx(right.mean())
    assert found["accuracy"]["correct"] == right.sum()
    assert found["accuracy"]["few"] is None  # labels 0 to 47 have more than 20 training images


def test_a_table_is_printed_where_no_json_is_wanted(
    call_ride: Ride, tmp_path: Path, picture_folder: Path
) -> None:
    flags = ("--output", tmp_path / "out", "--json", tmp_path / "summary.json")
    printed = call_ride("score", picture_folder, *flags)
    assert printed.returncode == 0
    assert "mean experts" in printed.stdout
    assert "compute avoided" in printed.stdout
    assert json.loads((tmp_path / "summary.json").read_bytes()) == summary_of(tmp_path / "out")


def test_labels_that_are_no_class_are_counted_and_left_out(
    score: Score, tmp_path: Path, pictures: tuple[bytes, ...], expected: Routed, engine: Engine
) -> None:
    right = engine.manifest.class_names[int(expected.probabilities[0].argmax())]
    labels = [right, "no class", None, "100", "-1", "apple"]
    pq.write_table(pa.table({"photo": pictures[:6], "y": labels}), tmp_path / "a.parquet")
    table = score(tmp_path / "a.parquet", labels="y")
    assert table["true_label"].to_pylist() == [right, None, None, None, None, "apple"]
    accuracy = summary_of(tmp_path / "out")["accuracy"]
    assert (accuracy["images"], accuracy["unknown_labels"]) == (2, 4)
    assert accuracy["overall"] >= 0.5


def test_embeddings_and_all_probabilities(
    score: Score, picture_parquet: Path, expected: Routed, engine: Engine, pixels: NDArray[np.uint8]
) -> None:
    kept = KeptFields(5, embeddings=True, all_probabilities=True)
    table = score(picture_parquet, kept=kept, part_rows=20)
    assert_answers(table, expected)
    assert table["probabilities"].to_pylist() == expected.probabilities.tolist()
    (first,) = engine.sessions["stage_1"].run(["embedding"], {"image": pixels})
    stopped = expected.experts_used == 1
    embeddings = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    assert (embeddings[stopped] == first[stopped]).all()
    assert (embeddings[~stopped] != first[~stopped]).any(axis=1).all()


def test_fewer_experts_when_they_are_asked_for(
    score: Score, picture_parquet: Path, engine: Engine, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    for routing, rule in (
        (Routing(max_experts=2), engine.rule(max_experts=2)),
        (Routing(quality="fast"), engine.rule(quality="fast")),
        (Routing(threshold=0.0), engine.rule(threshold=0.0)),
    ):
        table = score(picture_parquet, routing=routing, output=tmp_path / str(hash(routing)))
        assert_answers(table, engine.classify(pixels, rule))


@pytest.mark.parametrize("budget", [1.0, 1.3, 1.8, 2.5, 3.0])
def test_a_budget_is_kept_and_used_up(
    score: Score, picture_parquet: Path, tmp_path: Path, budget: float
) -> None:
    score(picture_parquet, routing=Routing(budget=budget))
    found = summary_of(tmp_path / "out")
    # The sample is all 48 pictures, of which one more is 2/48 experts at most.
    assert budget - 3 / 48 <= found["mean_experts"] <= budget
    run = json.loads((tmp_path / "out" / "_run.json").read_bytes())
    assert run["budget"] == {"mean_experts": pytest.approx(found["mean_experts"]), "images": 48}


def test_a_resumed_budget_keeps_its_thresholds(
    score: Score, picture_parquet: Path, tmp_path: Path
) -> None:
    before = score(picture_parquet, routing=Routing(budget=1.5), part_rows=10)
    run = json.loads((tmp_path / "out" / "_run.json").read_bytes())
    sorted((tmp_path / "out").glob("parts/part-*"))[2].unlink()
    assert score(picture_parquet, routing=Routing(budget=1.5), part_rows=10).equals(before)
    assert json.loads((tmp_path / "out" / "_run.json").read_bytes()) == run


def test_a_model_without_gears_has_budgets_too(engine: Engine, picture_folder: Path) -> None:
    plain = replace(engine, manifest=replace(engine.manifest, gears={}))
    shards = open_inputs([str(picture_folder)], None, None, 10).shards
    request = ScoringRequest((), Path("out"), Path("repository"), KeptFields(1))
    solved = solve_budget(plain, shards, 2.0, request)
    assert solved.images == 48
    assert 1.9 < solved.mean_experts <= 2.0


def test_files_say_of_which_run_they_are(
    score: Score, tmp_path: Path, picture_folder: Path
) -> None:
    score(picture_folder)
    (part,) = (tmp_path / "out").glob("parts/part-*.parquet")
    about = json.loads(pq.read_schema(part).metadata[b"ride"])
    run = json.loads((tmp_path / "out" / "_run.json").read_bytes())
    assert about == {
        name: run[name] for name in ("schema_version", "ride_version", "model", "rule")
    }


def test_without_the_extra_the_command_says_which(tmp_path: Path, picture_folder: Path) -> None:
    """And all others start."""
    program = f"""
import sys
sys.modules["pyarrow"] = sys.modules["fsspec"] = None
import ride
sys.argv = ["ride", "score", {str(picture_folder)!r}, "--output", {str(tmp_path / "out")!r}]
ride.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "needs the package pyarrow" in done.stderr
    assert "pip install 'ride-server[score]'" in done.stderr
    assert not (tmp_path / "out").exists()
