"""Every image meets itself, whatever the order, in blocks or by way of buckets on the disk."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.compare.pairing import paired
from scoring.compare.runs import BLOCK

ids = st.lists(st.sampled_from("abcdefghij"), max_size=30)


def blocks(names: Sequence[str], rows: int = 4) -> Iterator[pa.RecordBatch]:
    """Rows whose label is their number."""
    for start in range(0, len(names), rows):
        some = range(start, min(start + rows, len(names)))
        columns = {"id": pa.array([names[i] for i in some]), "label": pa.array(some, pa.int32())}
        nulls = {field.name: pa.nulls(len(some), field.type) for field in BLOCK}
        yield pa.RecordBatch.from_pydict(nulls | columns, schema=BLOCK)


@given(ids, ids, st.booleans())
def test_each_row_is_paired_or_alone_once(a: list[str], b: list[str], same_start: bool) -> None:
    b = a[:9] + b if same_start else b
    both: Counter[str] = Counter()
    rows_a, rows_b = [], []
    alone: dict[str, Counter[str]] = {"a": Counter(), "b": Counter()}
    for found in paired(blocks(a), blocks(b), 4 * 65_536):
        assert found.a["id"].equals(found.b["id"])
        both.update(found.a["id"].to_pylist())
        alone["a"].update(found.only_a["id"].to_pylist())
        alone["b"].update(found.only_b["id"].to_pylist())
        rows_a += found.a["label"].to_pylist() + found.only_a["label"].to_pylist()
        rows_b += found.b["label"].to_pylist() + found.only_b["label"].to_pylist()
    assert both == Counter(a) & Counter(b)
    assert alone == {"a": Counter(a) - both, "b": Counter(b) - both}
    assert sorted(rows_a) == list(range(len(a)))
    assert sorted(rows_b) == list(range(len(b)))


def test_runs_over_the_same_inputs_need_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryDirectory", None)
    names = [f"{i}" for i in range(100)]
    pairs = list(paired(blocks(names), blocks(names), 100))
    assert [len(found.a) for found in pairs] == [4] * 25
    with pytest.raises(TypeError):
        list(paired(blocks(names), blocks(names[1:]), 100))
