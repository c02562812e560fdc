"""KServe's Python client in an environment of its own: it wants an older pandas than Ray's."""

from __future__ import annotations

from pathlib import Path

from benchmarks.checkout import TOOLS
from benchmarks.environments import environment

KSERVE = "kserve==0.21.0"


def unsupported() -> str | None:
    """Why it can't run on this machine; it runs on all."""
    return None


def install(tools: Path = TOOLS) -> Path:
    """Find the client, or download it (about 450 MB).

    Returns:
        The interpreter of its environment.

    Raises:
        ToolMissing: if it can't be downloaded.
    """
    return environment(tools / "clients" / KSERVE.partition("==")[0], (KSERVE,))
