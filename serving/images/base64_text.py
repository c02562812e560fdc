"""Image files that come as text: JSON holds no bytes, so its clients send base64 (RFC 4648)."""

from __future__ import annotations

import binascii

_STANDARD = bytes.maketrans(b"-_", b"+/")
_BETWEEN_LINES = b" \t\r\n"


def image_file(data: bytes) -> bytes:
    """The file that base64 text holds, in either alphabet; anything else as it is.

    Nothing is ambiguous: no image file is text, as the first bytes of every format show.
    """
    if not data.isascii():
        return data
    try:
        return binascii.a2b_base64(data.translate(_STANDARD, _BETWEEN_LINES), strict_mode=True)
    except binascii.Error:
        return data
