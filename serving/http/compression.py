"""gzip and deflate of bodies (Triton's HTTP clients offer both)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from serving.errors import InvalidRequest, RequestTooLarge, UnsupportedEncoding

CODINGS = ("gzip", "deflate")
ACCEPTED = ", ".join(CODINGS)

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""For zlib: gzip's format, and zlib's own, which HTTP calls deflate (RFC 9110, section 8.4.1.2)."""

_PIECE = 2**20
"""Bytes that a body is inflated by at a time."""

_FAST = 1
"""Level of compression: answers are small, and the server's time is what counts."""


def named_coding(header: str) -> str | None:
    """The coding in a request's Content-Encoding; None where the body is plain.

    Raises:
        UnsupportedEncoding: if it is neither gzip nor deflate.
    """
    name = header.strip().lower()
    if name in {"", "identity"}:
        return None
    if name not in CODINGS:
        raise UnsupportedEncoding(f"the body's encoding {header[:100]!r} is not one of {ACCEPTED}")
    return name


def inflated(body: bytes, coding: str, max_bytes: int) -> Iterator[bytes]:
    """What a body holds, piece by piece, so that each can be counted before the next is made.

    Raises:
        InvalidRequest: if the body is damaged.
        RequestTooLarge: if it would become larger than `max_bytes`.
    """
    inflater, size = zlib.decompressobj(_WINDOW_BITS[coding]), 0
    try:
        while piece := inflater.decompress(body, _PIECE):
            size += len(piece)
            if size > max_bytes:
                raise RequestTooLarge(f"the decompressed body is larger than {max_bytes} bytes")
            yield piece
            body = inflater.unconsumed_tail
    except zlib.error as error:
        raise InvalidRequest(f"the body can't be decompressed: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise InvalidRequest("the compressed body is cut short, or something follows it")


def accepted_coding(header: str | None) -> str | None:
    """The first coding of ours in an Accept-Encoding header; a quality of 0 refuses one."""
    for coding in (header or "").lower().split(","):
        name, _, quality = coding.partition(";")
        if name.strip() in CODINGS and quality.replace(" ", "") not in ("q=0", "q=0.0"):
            return name.strip()
    return None


def compress(body: bytes, coding: str) -> bytes:
    """Apply gzip or deflate."""
    deflater = zlib.compressobj(_FAST, zlib.DEFLATED, _WINDOW_BITS[coding])
    return deflater.compress(body) + deflater.flush()
