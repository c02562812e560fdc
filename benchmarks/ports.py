"""Ports for servers that are started here."""

from __future__ import annotations

import socket


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback address that nobody listens on at the moment."""
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
