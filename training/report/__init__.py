"""The report of an evaluation: a page to read, and its numbers."""

from __future__ import annotations

from training.report.contents import ReportContents, RunResults
from training.report.page import write_report

__all__ = ["ReportContents", "RunResults", "write_report"]
