"""Virtual environments for servers that are not installed in this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.errors import ToolMissing

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
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", *requirements])
    stamp.write_text(wanted)
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise ToolMissing(f"can't be installed: {lines[-1].strip()}")
