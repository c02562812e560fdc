"""The table of formats: what a file is, what is accepted, and what follows from it."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from serving.errors import InvalidImage, SettingsError
from serving.images.decode import ImageLimits
from serving.images.files import _READERS
from serving.images.formats import (
    ALL,
    BY_DEFAULT,
    DECODED,
    accepted,
    chosen,
    format_of,
    suffixes,
)
from tests.checkout import ROOT
from tests.serving.images.pictures import assert_clear, decode, encode, lossless, picture, refusal


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


def numpy_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(2))
    return file.getvalue()


OTHERS = {
    "a HEIC image": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "a JPEG XL image": b"\xff\x0a\xfa\x1f",
    "a JPEG 2000 image": encode(picture(), "JPEG2000"),
    "an ICO image": encode(picture(), "ICO"),
    "a PNM image": encode(picture(), "PPM"),
    "a BMP image": encode(picture(), "BMP"),
    "a TIFF image": encode(picture(), "TIFF"),
    "a GIF image": encode(picture(), "GIF"),
    "a BigTIFF image": b"II+\0\x08\0\0\0",
    "a Canon raw image": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "an MP4 or QuickTime video": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2",
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "an SVG image": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "an HTML page": b"<!DOCTYPE html>\n<html><body>404</body></html>",
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "JSON": b'{"error": "not found"}',
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "a data URL": b"data:image/png;base64,iVBORw0KGgo=",
    "text": b"iVBORw0KGgo=",
    "a ZIP archive": zipped(),
    "a tar archive": tarred(),
    "a NumPy array": numpy_array(),
    "a DICOM file": bytes(128) + b"DICM\2\0",
    "a gzip file": b"\x1f\x8b\x08\0",
    "a Parquet file": b"PAR1\x15\x04",
}


@pytest.mark.parametrize("noun", OTHERS)
def test_a_refusal_names_what_was_found_and_what_to_send(noun: str) -> None:
    kind, message = refusal(OTHERS[noun])
    assert kind is InvalidImage
    assert message == (
        f"the bytes are {noun}, which is not accepted; send a JPEG, PNG, WebP or AVIF file"
    )


@pytest.mark.parametrize("data", [b"\0", b"\x89", bytes(600), b"\xff\xd8", b"RIFF\0\0\0\0WAVEfmt "])
def test_bytes_of_no_kind_are_refused_with_what_to_send(data: bytes) -> None:
    message = (
        "the bytes are not an image of an accepted format; send a JPEG, PNG, WebP or AVIF file"
    )
    assert refusal(data) == (InvalidImage, message)


@pytest.mark.parametrize("each", DECODED, ids=lambda each: each.name)
def test_every_format_is_known_by_what_pillow_writes_and_can_be_left_out(each: object) -> None:
    name = each.name  # type: ignore[attr-defined]
    data = lossless(picture(), name.upper())
    assert format_of(data, ALL) is each
    others = tuple(key for key in ALL if key != name.lower())
    with pytest.raises(InvalidImage, match=f"the bytes are a {name} image, which is not accepted"):
        format_of(data, others)


def test_every_format_has_a_reader_and_pillow_knows_its_endings_and_media_type() -> None:
    assert set(_READERS) == {each.name for each in DECODED}
    Image.init()
    for each in DECODED:
        assert Image.MIME[each.name.upper()] == each.media_type
        known = {end for end, name in Image.registered_extensions().items()}
        assert set(each.suffixes) <= known
        endings = {end for end, name in Image.EXTENSION.items() if name == each.name.upper()}
        assert set(each.suffixes) <= endings | {".dib", ".jfif"}


def test_the_lists_follow_from_the_table() -> None:
    assert BY_DEFAULT == ("jpeg", "png", "webp", "avif")
    assert suffixes() == (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif")
    assert suffixes(("gif", "bmp")) == (".bmp", ".dib", ".gif")
    assert accepted(("png",)) == "a PNG file"
    assert accepted(("gif", "jpeg")) == "a JPEG or GIF file"


@pytest.mark.parametrize("keys", [(), ("jpg",), ("png", "heic")])
def test_formats_that_there_are_not_are_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="formats are some of jpeg, png, webp, avif, bmp, tiff"):
        chosen(keys)
    with pytest.raises(SettingsError):
        ImageLimits(formats=keys)


def test_the_sentence_says_what_is_accepted_here() -> None:
    kind, message = refusal(encode(picture(), "GIF"), limits=ImageLimits(formats=("png", "tiff")))
    assert kind is InvalidImage
    assert message == "the bytes are a GIF image, which is not accepted; send a PNG or TIFF file"
    kind, message = refusal(b"", limits=ImageLimits(formats=("tiff",)))
    assert message == "the image is empty; send a TIFF file"
    assert_clear(message)


def test_a_picture_is_decoded_where_its_format_is_allowed() -> None:
    for key in ALL:
        data = lossless(picture(mode="L"), key.upper())
        assert decode(data, limits=ImageLimits(formats=(key,))).shape == (32, 32, 3)


def test_the_console_offers_what_is_accepted() -> None:
    page = (ROOT / "serving" / "console" / "index.html").read_text()
    types = ",".join(each.media_type for each in chosen())
    assert f'accept="{types}"' in page
    assert f"{accepted().removeprefix('a ').removesuffix(' file')}; sent to this server" in page


def test_the_documents_list_every_format_with_its_endings() -> None:
    page = (ROOT / "docs" / "image_files.md").read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")][1:]
    listed = {row[0].split()[0].strip(","): row[1].split() for row in rows}
    assert listed == {each.name: list(each.suffixes) for each in DECODED}
    by_default = {row[0].split()[0].strip(",") for row in rows if row[2].strip() == "yes"}
    assert by_default == {each.name for each in chosen()}
    readme = (ROOT / "README.md").read_text()
    assert f"Bodies are {accepted().removeprefix('a ')}s" in readme
