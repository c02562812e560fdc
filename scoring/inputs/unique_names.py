"""Names made unique in bounded memory, the same ones whenever they come in the same order."""

from __future__ import annotations

import hashlib

_BITS = 2**27
_HASHES = 4


class UniqueNames:
    """Gives each name back as it is, and with `#row` behind it where it came before.

    It takes 16 MiB however many names there are: a Bloom filter (Bloom 1970), which knows each name
    that it saw. It takes few new names for old ones (one in 100,000 after a million names), which
    then get their row too.
    """

    def __init__(self) -> None:
        self._seen = bytearray(_BITS // 8)

    def unique(self, name: str, row: int) -> str:
        """The name, or with what makes it unique; `row` is its number among all."""
        if self._add(name):
            return name
        found, again = f"{name}#{row}", 1
        while not self._add(found):  # only where names were chosen to look like that
            again += 1
            found = f"{name}#{row}#{again}"
        return found

    def _add(self, name: str) -> bool:
        """Whether it is new."""
        digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=16).digest()
        new = False
        for start in range(0, 4 * _HASHES, 4):
            byte, bit = divmod(int.from_bytes(digest[start : start + 4]) % _BITS, 8)
            new |= not self._seen[byte] >> bit & 1
            self._seen[byte] |= 1 << bit
        return new
