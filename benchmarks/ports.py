"""Ports for servers that are started here."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections, any of which may come in between."""


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback address that nobody listens on at the moment."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found
