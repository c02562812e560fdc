"""The id by which a request is known in logs and answers: the client's, or a new one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

REQUEST_ID = "x-request-id"
_VALID = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")


def request_id(headers: Mapping[str, str]) -> str:
    """That of headers with lower-case names, if it is short and harmless; else a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _VALID.fullmatch(given) else secrets.token_hex(8)
