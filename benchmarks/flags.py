"""Values of flags that several measurements have."""

from __future__ import annotations

import argparse


def seconds(text: str) -> float:
    """For how long to measure.

    Raises:
        argparse.ArgumentTypeError: if it is no time that anybody would wait.
    """
    value = float(text)
    if not 0 < value < 3_600:
        raise argparse.ArgumentTypeError("must lie between 0 and 3600")
    return value
