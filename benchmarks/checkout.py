"""Where things lie in a checkout of the repository."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
BUNDLED = CHECKOUT / "model_repository"
TEST_IMAGES = CHECKOUT / "tests" / "data" / "cifar100" / "test.parquet"
TOOLS = CHECKOUT / ".tools"
"""Where programs and servers for measurements are installed; git ignores it."""
