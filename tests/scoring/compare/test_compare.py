"""`ride compare` on real runs: what it reports is what the two tables say."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.request import Routing
from serving.engine.graphs import Engine

Score = Callable[..., pa.Table]
Ride = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def compare(call_ride: Ride) -> Callable[..., dict[str, Any]]:
    """The comparison of two folders as JSON."""

    def run(a: Path, b: Path) -> dict[str, Any]:
        done = call_ride("compare", a, b, "--json", "-")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def test_what_differs_is_what_the_rows_say(
    score: Score,
    compare: Callable[..., dict[str, Any]],
    tmp_path: Path,
    picture_parquet: Path,
    engine: Engine,
) -> None:
    a, b = (
        score(picture_parquet, output=tmp_path / name, labels="class", part_rows=rows, routing=way)
        for name, rows, way in (
            ("a", 7, Routing(quality="fast")),
            ("b", 20, Routing(threshold=0.0)),
        )
    )
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found["images"]["common"] == 48
    assert found["images"]["only_in_a"] == found["images"]["only_in_b"] == 0
    pairs = Counter(zip(a["label"].to_pylist(), b["label"].to_pylist(), strict=True))
    changes = {pair: n for pair, n in pairs.items() if pair[0] != pair[1]}
    assert found["labels"]["changed"] == sum(changes.values()) > 0
    assert found["labels"]["changed_share"] == sum(changes.values()) / 48
    reported = found["labels"]["most_frequent"]
    assert {(each["was"], each["is"]): each["images"] for each in reported} == changes
    used = a["experts_used"].to_numpy(), b["experts_used"].to_numpy()
    assert found["experts"]["mean"] == pytest.approx({"a": used[0].mean(), "b": 3})
    matrix = np.zeros((3, 3), int)
    np.add.at(matrix, (used[0] - 1, used[1] - 1), 1)
    assert found["experts"]["matrix"] == matrix.tolist()
    change = np.abs(a["probability"].to_numpy() - b["probability"].to_numpy())
    assert found["confidence"]["a"]["mean"] == pytest.approx(a["probability"].to_numpy().mean())
    assert found["confidence"]["change"]["mean"] == pytest.approx(change.mean(), rel=1e-5)
    assert found["confidence"]["change"]["most"] == pytest.approx(change.max())
    right = [
        (table["index"].to_numpy() == table["true_index"].to_numpy()).tolist() for table in (a, b)
    ]
    overall = found["accuracy"]["overall"]
    assert (overall["images"], overall["a"], overall["b"]) == (
        48,
        sum(right[0]) / 48,
        sum(right[1]) / 48,
    )
    kinds = Counter(zip(*right, strict=True))
    assert overall["right"]["only_a"] == kinds[True, False]
    assert overall["right"]["only_b"] == kinds[False, True]
    assert overall["interval"][0] <= overall["difference"] <= overall["interval"][1]
    many = np.array(engine.manifest.class_counts)[:48] > 100
    same = np.array(a["label"].to_pylist()) == np.array(b["label"].to_pylist())
    assert found["agreement"]["grouped_by"] == "true_label"
    assert found["agreement"]["many"] == pytest.approx(same[many].mean())
    assert found["agreement"]["few"] is None is found["accuracy"]["few"]


def test_a_run_does_not_differ_from_itself(
    score: Score, compare: Callable[..., dict[str, Any]], tmp_path: Path, picture_parquet: Path
) -> None:
    score(picture_parquet)
    found = compare(tmp_path / "out", tmp_path / "out")
    assert found["labels"]["changed"] == 0
    assert found["agreement"]["grouped_by"] == "label_in_a"
    assert {found["agreement"][group] for group in ("many", "medium", "few")} <= {1.0, None}
    assert found["confidence"]["change"]["most"] == found["confidence"]["total_variation"] == 0
    assert found["accuracy"] is None
    assert found["errors"] == {"appeared": {}, "went_away": {}, "in_both": 0}


def test_errors_and_images_that_come_and_go(
    score: Score, compare: Callable[..., dict[str, Any]], tmp_path: Path, picture_folder: Path
) -> None:
    (picture_folder / "03.png").write_bytes(b"no image")
    (picture_folder / "04.png").write_bytes(b"")
    before = score(picture_folder, output=tmp_path / "a")
    (picture_folder / "03.png").write_bytes((picture_folder / "05.png").read_bytes())
    (picture_folder / "06.png").write_bytes(b"no image")
    (picture_folder / "00.png").unlink()
    (picture_folder / "99.png").write_bytes((picture_folder / "05.png").read_bytes())
    score(picture_folder, output=tmp_path / "b")
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found["images"] == {
        "common": 47,
        "only_in_a": 1,
        "only_in_b": 1,
        "examples_only_in_a": [f"{picture_folder}/00.png"],
        "examples_only_in_b": [f"{picture_folder}/99.png"],
        "changed_or_missing": 4,
        "changed_or_missing_share": 4 / 49,
    }
    assert found["errors"] == {
        "appeared": {"invalid_image": 1},
        "went_away": {"invalid_image": 1},
        "in_both": 1,
    }
    assert found["labels"]["changed"] == 2  # to an answer and from one
    assert {"was": before["label"][6].as_py(), "is": None, "images": 1} in found["labels"][
        "most_frequent"
    ]


def test_a_gate_closes_when_too_many_labels_changed(
    score: Score, call_ride: Ride, tmp_path: Path, picture_parquet: Path
) -> None:
    score(picture_parquet, output=tmp_path / "a", labels="class", routing=Routing(quality="fast"))
    score(picture_parquet, output=tmp_path / "b", routing=Routing(threshold=0.0))
    arguments = ("compare", tmp_path / "a", tmp_path / "b", "--json", tmp_path / "c.json")
    opened = call_ride(*arguments)
    assert opened.returncode == 0
    for word in ("label changed", "mean experts", "McNemar p", "stability index"):
        assert word in opened.stdout
    changed = json.loads((tmp_path / "c.json").read_bytes())["labels"]["changed_share"]
    assert call_ride(*arguments, "--max-changed", changed).returncode == 0
    closed = call_ride(*arguments, "--max-changed", changed - 0.01)
    assert closed.returncode == 1
    assert f"{changed:.2%} of the images changed" in closed.stderr


@pytest.fixture
def lacking(score: Score, tmp_path: Path, picture_folder: Path) -> tuple[Path, Path]:
    """A run of 48 pictures and one of 45 of them, with the same labels."""
    score(picture_folder, output=tmp_path / "whole")
    for i in range(3):
        (picture_folder / f"{i:02}.png").unlink()
    score(picture_folder, output=tmp_path / "lacking")
    return tmp_path / "whole", tmp_path / "lacking"


@pytest.mark.parametrize("turned", [False, True])
def test_a_missing_image_is_a_change_for_the_gate(
    lacking: tuple[Path, Path], call_ride: Ride, turned: bool
) -> None:
    a, b = reversed(lacking) if turned else lacking
    without = "A" if turned else "B"
    found = call_ride("compare", a, b)
    assert found.returncode == 0
    assert f"missing in {without}" in found.stdout
    for allowed, ignored, status in (
        (0, False, 1),
        (3 / 48 - 1e-9, False, 1),
        (3 / 48, False, 0),
        (0, True, 0),
    ):
        flags = ["--max-changed", allowed, *["--ignore-missing"] * ignored]
        done = call_ride("compare", a, b, *flags)
        assert done.returncode == status, flags
        told = f"6.25% of the images changed (0 have another label, 3 are missing in {without})"
        assert (told in done.stderr) == (status == 1)


def test_a_gate_that_ignores_missing_images_counts_labels(
    lacking: tuple[Path, Path], score: Score, call_ride: Ride, tmp_path: Path, picture_folder: Path
) -> None:
    whole, _ = lacking
    was = pq.read_table(whole / "parts")["label"].to_pylist()
    score(picture_folder, output=tmp_path / "fast", routing=Routing(quality="fast"))
    now = pq.read_table(tmp_path / "fast" / "parts")["label"].to_pylist()
    changed = sum(a != b for a, b in zip(was[3:], now, strict=True))
    assert changed
    gate = ("compare", whole, tmp_path / "fast", "--ignore-missing", "--max-changed")
    assert call_ride(*gate, changed / 45).returncode == 0
    closed = call_ride(*gate, changed / 45 - 1e-9)
    assert closed.returncode == 1
    assert f"({changed} have another label), and --max-changed" in closed.stderr
    refused = call_ride(*gate[:-1])
    assert refused.returncode == 1
    assert "--ignore-missing belongs to --max-changed" in refused.stderr


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "_run.json").unlink(), "holds no _run.json"),
        (lambda out: (out / "_summary.json").unlink(), "is not finished: 48 images are there"),
        (
            lambda out: next(out.glob("parts/part-*")).unlink(),
            "is not finished: 0 images are there",
        ),
        (lambda out: alter(out, schema_version=7), "in other columns"),
        (lambda out: spoil(next(out.glob("parts/part-*"))), "is no readable part"),
    ],
)
def test_what_is_no_finished_run_is_refused(
    score: Score,
    call_ride: Ride,
    tmp_path: Path,
    picture_parquet: Path,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    score(picture_parquet)
    damage(tmp_path / "out")
    refused = call_ride("compare", tmp_path / "out", tmp_path / "out")
    assert refused.returncode == 1
    assert message in refused.stderr


def alter(folder: Path, **values: object) -> None:
    run = json.loads((folder / "_run.json").read_bytes())
    (folder / "_run.json").write_text(json.dumps(run | values))


def spoil(part: Path) -> None:
    part.write_bytes(b"x" * part.stat().st_size)


def test_runs_without_a_common_image(
    score: Score, call_ride: Ride, tmp_path: Path, picture_parquet: Path
) -> None:
    score(picture_parquet, output=tmp_path / "a")
    pq.write_table(pq.read_table(picture_parquet).slice(0, 2), tmp_path / "two.parquet")
    score(tmp_path / "two.parquet", output=tmp_path / "b")
    refused = call_ride("compare", tmp_path / "a", tmp_path / "b")
    assert refused.returncode == 1
    assert "two.parquet#0" in refused.stderr
    assert call_ride("compare", tmp_path / "a", tmp_path / "none").returncode == 1
