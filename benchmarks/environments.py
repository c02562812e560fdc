"""Virtual environments for servers that are not installed in this one."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.errors import ToolMissing
from benchmarks.program import run

ORT = "onnxruntime==1.31.1"
"""The runtime in every server's environment: the release that constraints.txt has for ours."""


def environment(folder: Path, requirements: tuple[str, ...]) -> Path:
    """The interpreter of a virtual environment with these packages; made when first needed.

    Raises:
        ToolMissing: if they can't be installed.
    """
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(requirements)
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *requirements],
    ):
        run(command, "can't be installed", ToolMissing)
    stamp.write_text(wanted)
    return python
