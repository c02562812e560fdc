"""Web servers of a folder: one that sends whole files only, and one that sends parts of them."""

from __future__ import annotations

import functools
import http.server
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any


@dataclass
class WebServer:
    """Where it is, and the parts of files that it sent: path, first byte, last byte."""

    url: str
    parts: list[tuple[str, int, int]] = field(default_factory=list)


@contextmanager
def web_server(folder: Path, *, parts: bool) -> Iterator[WebServer]:
    """Serve a folder for as long as this is entered."""
    server = WebServer("")
    handler = functools.partial(
        _Parts if parts else _Whole, directory=str(folder), sent=server.parts
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


class _Whole(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, sent: list[tuple[str, int, int]], **settings: Any) -> None:
        self._sent = sent
        super().__init__(*args, **settings)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Parts(_Whole):
    """As RFC 9110, section 14, has it, for one range."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        file = Path(self.translate_path(self.path))
        if wanted is None or not file.is_file():
            super().do_GET()
            return
        with file.open("rb") as source:
            self._send_part(source, int(wanted[1]), wanted[2])

    def _send_part(self, source: IO[bytes], first: int, asked: str) -> None:
        size = os.fstat(source.fileno()).st_size
        last = min(int(asked or size), size - 1)
        if first > last:
            self.send_response(http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._sent.append((self.path, first, last))
        self.send_response(http.HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        source.seek(first)
        self.wfile.write(source.read(last + 1 - first))

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()
