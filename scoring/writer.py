"""Parts as Parquet files: their columns, which docs/scoring.md describes, and their writing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scoring.errors import OutputError
from scoring.layout import PARTS_FOLDER
from scoring.parts import Part
from scoring.request import KeptFields
from serving.files import replacing
from serving.model.manifest import Manifest

SCHEMA_VERSION = 1
_METADATA_KEY = b"ride"
_COMPRESSION = "zstd"


@dataclass(frozen=True)
class PartWriter:
    """Writes parts of one run.

    Attributes:
        folder: the output folder.
        manifest: of the model.
        kept: what was kept of each answer.
        labels: whether the inputs have labels.
        about: what every file says of the run, as JSON in its metadata.
    """

    folder: Path
    manifest: Manifest
    kept: KeptFields
    labels: bool
    about: Mapping[str, Any]

    def write(self, part: Part, truth: NDArray[np.int32]) -> int:
        """Write a part, whole or not at all; returns how many bytes it has.

        Args:
            part: a complete one.
            truth: int32 [N], the class of each row's label; -1 where it has none.

        Raises:
            OutputError: if it can't be written; nothing of it is left then.
        """
        path = self.folder / PARTS_FOLDER / part.key.file_name
        table = self.table(part, truth)
        try:
            with replacing(path, temporary_in=self.folder) as file:
                pq.write_table(table, file, compression=_COMPRESSION)
            return path.stat().st_size
        except OSError as error:
            raise OutputError(
                f"{path} can't be written: {error.strerror or error}; what is there already is "
                "whole, and the same command goes on from it"
            ) from error

    def table(self, part: Part, truth: NDArray[np.int32]) -> pa.Table:
        """A part's rows in the columns of the output."""
        n, names = len(part), pa.array(self.manifest.class_names)
        answered = part.experts_used[:n] > 0
        indices, probabilities = part.top_indices[:n], part.top_probabilities[:n]
        scores = part.router_scores[:n]
        faults = [part.faults.get(row) for row in range(n)]
        columns: dict[str, pa.Array] = {
            "id": _texts(part.ids),
            "path": _texts(part.paths),
            "label": _masked(names.take(pa.array(indices[:, 0])), answered),
            "index": _masked(pa.array(indices[:, 0]), answered),
            "probability": _masked(pa.array(probabilities[:, 0]), answered),
            "top_labels": _lists(names.take(pa.array(indices.ravel())), answered),
            "top_indices": _lists(pa.array(indices.ravel()), answered),
            "top_probabilities": _lists(pa.array(probabilities.ravel()), answered),
            "experts_used": _masked(pa.array(part.experts_used[:n]), answered),
            "router_scores": _lists(
                pa.array(scores.ravel(), mask=np.isnan(scores).ravel()), answered
            ),
            "error_kind": _texts([None if fault is None else fault.kind.value for fault in faults]),
            "error": _texts([None if fault is None else fault.reason for fault in faults]),
        }
        if self.labels:
            known = truth >= 0
            of_class = names.take(pa.array(np.maximum(truth, 0)))
            columns["true_label"] = _masked(of_class, known)
            columns["true_index"] = _masked(pa.array(truth), known)
        if self.kept.embeddings:
            columns["embedding"] = _rows(part.embeddings, answered)
        if self.kept.all_probabilities:
            columns["probabilities"] = _rows(part.probabilities, answered)
        metadata = {_METADATA_KEY: json.dumps(dict(self.about)).encode()}
        return pa.table(columns).replace_schema_metadata(metadata)


def _texts(texts: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:  # names of files need not be Unicode
        mended = [text and text.encode(errors="backslashreplace").decode() for text in texts]
        return pa.array(mended, pa.string())


def _masked(values: pa.Array, present: NDArray[np.bool_]) -> pa.Array:
    return pa.compute.if_else(pa.array(present), values, pa.scalar(None, values.type))


def _lists(values: pa.Array, present: NDArray[np.bool_]) -> pa.Array:
    """A list a row, all of the same length [N * each]; null where there is no answer."""
    n = len(present)
    each = len(values) // n if n else 0
    if not each:
        values = values.slice(0, 0)
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * each)
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(~present))


def _rows(values: Any, present: NDArray[np.bool_]) -> pa.Array:
    """Rows of numbers [N, ..]; all null where no row has an answer."""
    n = len(present)
    if values is None:
        return pa.nulls(n, pa.list_(pa.float32()))
    return _lists(pa.array(np.ascontiguousarray(values[:n]).ravel()), present)


def true_classes(labels: Sequence[Any], manifest: Manifest) -> NDArray[np.int32]:
    """The class of each label, int32 [N]; -1 for none, and for what is no class of the model.

    A label is the name of a class, or its number from 0, as a number or as digits.
    """
    numbers = {name: index for index, name in enumerate(manifest.class_names)}

    def find(label: Any) -> int:
        if label in numbers:
            return numbers[label]
        if isinstance(label, str) and label.isdecimal() and len(label) < 10:
            label = int(label)
        if isinstance(label, int) and 0 <= label < manifest.num_classes:
            return label
        return -1

    return np.array([find(label) for label in labels], dtype=np.int32)
