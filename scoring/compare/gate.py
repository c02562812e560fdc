"""Whether two runs are alike enough for a roll-out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def why_closed(
    found: Mapping[str, Any], max_changed: float, *, ignore_missing: bool = False
) -> str | None:
    """In a sentence, what of a comparison exceeds a share of changed images; None for nothing.

    Args:
        found: as `compare_runs` gives it.
        max_changed: the share that is allowed.
        ignore_missing: whether images that only one run has are left out. Else each is a change.
    """
    images, labels = found["images"], found["labels"]
    share = labels["changed_share"] if ignore_missing else images["changed_or_missing_share"]
    if share <= max_changed:
        return None
    what = [f"{labels['changed']:,} have another label"]
    if not ignore_missing:
        missing = (("B", images["only_in_a"]), ("A", images["only_in_b"]))
        what += [f"{count:,} are missing in {run}" for run, count in missing if count]
    return (
        f"{share:.2%} of the images changed ({', '.join(what)}), and --max-changed allows "
        f"{max_changed:.2%}"
    )
