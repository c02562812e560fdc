"""How numbers and names read, in plots and tables alike."""

from __future__ import annotations

import math
from unicodedata import category


def percent(share: float | None) -> str:
    """One decimal; a dash for what is not known."""
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def with_si_prefix(count: float) -> str:
    """Three digits and a unit: 1.82 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def without_control_characters(text: str) -> str:
    """Without control characters and lone surrogates, which no page can hold."""
    spaced = " ".join(text.split())
    return "".join("�" if category(letter) in {"Cc", "Cs"} else letter for letter in spaced)
