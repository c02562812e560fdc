"""Files with names that lists must name rightly."""

from __future__ import annotations

from pathlib import Path

import pytest

NAMES = [
    *("a.png", "b.png", "c d.png", "e,f.png", 'g"h.png', "i'j.png", "#1.png", "k;l.png"),
    *("NA", "null", "NaN", "N/A", "None", "photo", "\u00e4\u2028.png", "'quoted.png'"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file of each name, which holds its name."""
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path
