"""Which tests one of several processes runs as one, and in which order: for pytest-xdist."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = (
    "tests/triton/",  # one Triton
    "tests/monitoring/",  # one Prometheus, and load as long as it runs
    "tests/export/",  # one run, which is exported
    "tests/scoring/",  # Ray: one at a time is enough for a machine
)
"""Folders whose tests share what is slow to make. They begin early: no process is left alone
with one at the end."""


def folder_or_module(nodeid: str) -> str:
    """One of TOGETHER, or the module of a test."""
    module = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if module.startswith(folder)), module)


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process a folder or a module at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return folder_or_module(nodeid)
