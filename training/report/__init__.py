"""The report of an evaluation: a page to read, and its numbers."""

from __future__ import annotations

from training import matplotlib_folder  # noqa: F401, before plots
from training.report.contents import ReportContents, RunResults
from training.report.page import refuse_foreign, write_report

__all__ = ["ReportContents", "RunResults", "refuse_foreign", "write_report"]
