"""JPEGs without their end marker: decoded where all pixels are there, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from serving.errors import InvalidImage
from serving.images.rgb import MOST_PIXELS, decode_whole
from tests.serving.images.pictures import SMALL, Pixels, decode, encode, picture, refusal, segment

END = b"\xff\xd9"


def files() -> dict[str, bytes]:
    image = picture(45, 37)
    return {
        "baseline": encode(image, "JPEG"),
        "fine": encode(image, "JPEG", quality=97, subsampling=0),
        "progressive": encode(image, "JPEG", progressive=True),
        "progressive of one component": encode(image.convert("L"), "JPEG", progressive=True),
        "restart markers": encode(image, "JPEG", restart_marker_blocks=2),
        "grey": encode(image.convert("L"), "JPEG"),
        "CMYK": encode(image.convert("CMYK"), "JPEG"),
        "flat": encode(Image.new("RGB", (64, 64), (90, 90, 90)), "JPEG"),
    }


def whole(data: bytes) -> Pixels:
    return np.asarray(decode_whole(data, MOST_PIXELS))


@pytest.mark.parametrize("kind", files())
def test_a_cut_jpeg_is_accepted_only_where_it_has_the_whole_files_pixels(kind: str) -> None:
    data = files()[kind]
    expected, accepted = whole(data), []
    for length in range(3, len(data)):
        try:
            pixels = whole(data[:length])
        except InvalidImage as error:
            assert str(error) == "the JPEG image is damaged or cut short; send the whole file"
        else:
            np.testing.assert_array_equal(pixels, expected)
            accepted.append(len(data) - length)
    assert accepted == [2, 1]  # without the end marker, and with half of it


@pytest.mark.parametrize("kind", files())
def test_the_server_decodes_one_without_end_marker(kind: str) -> None:
    data = files()[kind]
    np.testing.assert_array_equal(decode(data.removesuffix(END)), decode(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_one_that_is_decoded_at_a_smaller_scale_must_be_whole_too(progressive: bool) -> None:
    data = encode(picture(500, 375), "JPEG", quality=90, progressive=progressive)
    assert data.endswith(END)
    np.testing.assert_array_equal(decode(data[:-2], SMALL), decode(data, SMALL))
    for missing in (3, 4, 5, 20, 500, len(data) // 2):
        assert refusal(data[:-missing], SMALL)[0] is InvalidImage


def test_metadata_of_one_without_end_marker_is_cut_out_as_ever() -> None:
    data = encode(picture(), "JPEG")
    long = data[:2] + segment(0xE2, bytes(1000)) + data[2:]
    np.testing.assert_array_equal(decode(long[:-2]), decode(data))


@pytest.mark.parametrize("rest", [bytes(7), b"rest of another file", encode(picture(9, 9), "JPEG")])
def test_what_follows_the_end_marker_does_not_matter(rest: bytes) -> None:
    data = encode(picture(), "JPEG")
    np.testing.assert_array_equal(decode(data + rest), decode(data))


@pytest.mark.parametrize("rest", [bytes(4096), b"rest of another file" * 20])
def test_without_an_end_marker_other_bytes_may_stand_for_missing_pixels(rest: bytes) -> None:
    data = encode(picture(64, 64), "JPEG")
    for length in range(len(data) - 400, len(data) - 1, 7):
        assert refusal(data[:length] + rest)[0] is InvalidImage


def test_arithmetic_coding_can_not_tell_what_is_missing() -> None:
    data = encode(picture(), "JPEG").removesuffix(END)
    arithmetic = data.replace(b"\xff\xc0", b"\xff\xc9", 1)
    assert refusal(arithmetic)[0] is InvalidImage


def test_a_sequential_jpeg_of_a_scan_a_component_needs_all_of_them() -> None:
    """Written by hand: flat components of 8 x 8 pixels, of which the last scan may be missing."""
    start, scans = _three_scans()
    np.testing.assert_array_equal(
        whole(start + b"".join(scans)), whole(start + b"".join(scans) + END)
    )
    for count in (1, 2):
        with pytest.raises(InvalidImage):
            whole(start + b"".join(scans[:count]))


def _three_scans() -> tuple[bytes, list[bytes]]:
    """What comes before the scans, and a scan for each of three components of one block each."""
    data = encode(Image.new("RGB", (8, 8), (90, 120, 30)), "JPEG", subsampling=0)
    table = segment(0xC4, bytes([0x00, 1, *([0] * 15), 0]) + bytes([0x10, 1, *([0] * 15), 0]))
    start = data[: data.index(b"\xff\xc4")] + table
    # Each table has one code, of one bit: no difference, and the end of the block.
    scans = [segment(0xDA, bytes([1, kind, 0, 0, 63, 0])) + b"\x3f" for kind in (1, 2, 3)]
    return start, scans
