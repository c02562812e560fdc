"""docs/metrics.md says what the code has."""

from __future__ import annotations

from monitoring.metrics_page import metrics_page
from tests.checkout import ROOT

PAGE = ROOT / "docs" / "metrics.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == metrics_page(), "python -m monitoring.metrics_page > docs/metrics.md"
