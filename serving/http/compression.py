"""gzip and deflate of infer bodies (Triton's HTTP clients offer both)."""

from __future__ import annotations

import zlib

from serving.errors import InvalidRequest, RequestTooLarge, UnsupportedEncoding

CODINGS = ("gzip", "deflate")
ACCEPTED = ", ".join(CODINGS)

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""For zlib: gzip's format, and zlib's own, which HTTP calls deflate (RFC 9110, section 8.4.1.2)."""

_FAST = 1
"""Level of compression: answers are small, and the server's time is what counts."""


def decompress(body: bytes, coding: str | None, max_bytes: int) -> bytes:
    """Undo a request's Content-Encoding.

    Raises:
        UnsupportedEncoding: if it is neither gzip nor deflate.
        InvalidRequest: if the body is damaged.
        RequestTooLarge: if it would become larger than `max_bytes`.
    """
    if coding is None or coding.strip().lower() in ("", "identity"):
        return body
    window_bits = _WINDOW_BITS.get(coding.strip().lower())
    if window_bits is None:
        raise UnsupportedEncoding(f"the body's encoding {coding[:100]!r} is not one of {ACCEPTED}")
    inflater = zlib.decompressobj(window_bits)
    try:
        content = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body can't be decompressed: {error}") from None
    if len(content) > max_bytes:
        raise RequestTooLarge(f"the decompressed body is larger than {max_bytes} bytes")
    if not inflater.eof or inflater.unused_data:
        raise InvalidRequest("the compressed body is cut short, or something follows it")
    return content


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
