"""How far the event loop is behind: requests wait there too, before anybody has seen them."""

from __future__ import annotations

import asyncio

_EVERY_S = 0.02


class LoopLag:
    """Measures by how much a short sleep is too long.

    Attributes:
        seconds: the newest figure; 0 until `watch` runs.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    async def watch(self) -> None:
        """Measure for as long as this runs."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self.seconds = max(0.0, loop.time() - due)
