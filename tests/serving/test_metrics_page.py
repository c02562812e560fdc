"""docs/metrics.md says what the code has."""

from __future__ import annotations

from pathlib import Path

from serving.metrics_page import metrics_page

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == metrics_page(), "python -m serving.metrics_page > docs/metrics.md"
