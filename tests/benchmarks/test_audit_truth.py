"""The audit of a server that audits everything is the truth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.checkout import TEST_IMAGES
from benchmarks.errors import BenchmarkError
from benchmarks.studies.audit_truth import Truth, audit_truth

IMAGES = 60


def test_a_whole_audit_is_the_truth(tmp_path: Path) -> None:
    file = tmp_path / "test.parquet"
    pq.write_table(pq.read_table(TEST_IMAGES).slice(500, IMAGES), file)
    head, drawn, *figures, by_labels = audit_truth(file, share=1.0)
    assert head.startswith(f"{IMAGES} images of test.parquet, ")
    assert drawn == f"share 1: {IMAGES} drawn, {IMAGES} audited"
    assert len(figures) == 5
    for figure in figures:
        estimate, truth = figure.split(": ")[1].split(" ")[0], figure.split("truth ")[1]
        assert truth == f"{estimate}, within"
    assert by_labels.startswith("accuracy lost by the labels: ")


def test_truth_is_counted_by_the_full_ensemble_s_group() -> None:
    truth = Truth(
        routed=np.array([0, 1, 2, 3]),
        full=np.array([0, 1, 5, 6]),
        labels=np.array([0, 9, 5, 3]),
        groups=np.array([0, 0, 1, 2], dtype=np.int8),
        expected_lost=np.array([0, 0, 0.5, 0.1]),
    )
    assert truth.agreement("all") == 0.5
    assert [truth.agreement(group) for group in ("many", "medium", "few")] == [1, 0, 0]
    lost, error = truth.lost_by_labels
    assert lost == 0  # one gained, one lost
    assert error == pytest.approx(math.sqrt(0.5) / 2)


def test_a_file_without_labels_is_named(tmp_path: Path) -> None:
    file = tmp_path / "test.parquet"
    pq.write_table(pq.read_table(TEST_IMAGES, columns=["img"]).slice(0, 2), file)
    with pytest.raises(BenchmarkError, match="no column fine_label"):
        list(audit_truth(file, share=1.0))
