"""Flags that several commands have, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

Seconds = Annotated[
    float, typer.Option(min=0.001, max=3_600, help="To measure each figure, about.")
]
Rounds = Annotated[int, typer.Option(min=1, help="In each of which all take their turn.")]
