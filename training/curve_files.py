"""TensorBoard event files of a run's curves.

They are written by hand, because TensorBoard's writer is a thread: where the disk is full it prints
a traceback and takes the run along.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class CurveFile:
    """A new event file in a folder. Every method raises OSError where it can't be written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = _new_path(folder)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, name: str, value: float, step: int) -> None:
        """One point of a curve."""
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Event) -> None:
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        with self._path.open("ab", buffering=0) as file:
            if file.write(record.getbuffer()) < record.tell():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))


def _new_path(folder: Path) -> Path:
    """TensorBoard reads the files of a folder in the order of their names, which is time's."""
    names = (f"events.out.tfevents.{int(time.time()):010d}.{i:03d}" for i in itertools.count())
    return next(path for name in names if not (path := folder / name).exists())
