"""The option `--formats` of commands that decode image files of their own user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from serving.images.formats import ALL, BY_DEFAULT, chosen
from serving.options import option


def _keys(typed: str) -> tuple[str, ...]:
    keys = tuple(key.strip().lower() for key in typed.split(","))
    return tuple(each.key for each in chosen(keys))


@dataclass(frozen=True)
class AcceptedFormats:
    """Which formats are decoded, by their keys in `serving.images.formats`."""

    formats: Annotated[
        tuple[str, ...],
        option(
            f"Formats of images that are decoded, of {', '.join(ALL)}; of a GIF or TIFF that holds "
            "several images, the first.",
            "Inputs",
            kind=str,
            read=_keys,
            shown=",".join(BY_DEFAULT),
        ),
    ] = BY_DEFAULT


USUAL = AcceptedFormats()
