"""How a server is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Start:
    """A command, and what its environment has besides this one's."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
