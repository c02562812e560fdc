"""Large JPEGs, decoded at a smaller scale, still come out as the evaluation transform has them."""

from __future__ import annotations

import io
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import get_data_path
from PIL import Image

from benchmarks.studies.decoding import photograph
from serving.errors import ImageTooLarge, InvalidImage
from serving.images.decode import DRAFT_FACTOR, ImageLimits, decode_image
from serving.model.manifest import ImageSpec
from tests.checkout import ROOT
from tests.serving.images.pictures import LIMITS, SMALL, SPECS, UPRIGHT, Pixels, encode, evaluated
from training.augmentation.images import evaluation_transform
from training.config import DataConfig
from training.data.decoding import decode_image as decode_for_training

MEAN = 0.5
"""Levels of 255 that a photograph may be off on average; single pixels at a sharp edge, `MOST`."""
MOST = 8


@cache
def photo(width: int, height: int) -> Image.Image:
    return photograph(width, height)


@cache
def portrait() -> Image.Image:
    """A real photograph, 512 x 600."""
    with Image.open(Path(get_data_path(), "sample_data", "grace_hopper.jpg")) as image:
        return image.convert("RGB")


def edges() -> Image.Image:
    """Black and white blocks that alias when they are resized: the worst there is."""
    y, x = np.mgrid[0:700, 0:901]
    stripes = np.where((x // 11 + y // 29) % 2, 255, 0)
    return Image.fromarray(np.stack([stripes, 255 - stripes, stripes // 3], -1).astype(np.uint8))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


def whole(data: bytes) -> Image.Image:
    return decode_for_training(data, "the image")


def off(data: bytes, spec: ImageSpec) -> Pixels:
    """How far the result is from the evaluation transform of the whole image."""
    result = decode_image(data, spec, LIMITS).astype(int)
    return np.abs(result - evaluated(whole(data), spec)).astype(np.uint8)


def assert_close(data: bytes, spec: ImageSpec, mean: float = MEAN) -> None:
    difference = off(data, spec)
    assert difference.mean() <= mean
    assert difference.max() <= MOST


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(
    "size", [(500, 375), (1000, 667), (801, 1203), (640, 3000), (257, 259), (2049, 1537)]
)
def test_a_large_jpeg_is_close_to_the_evaluation_transform(
    spec: ImageSpec, size: tuple[int, int]
) -> None:
    assert_close(encode(photo(*size), "JPEG", quality=90), spec)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_so_is_a_real_photograph(spec: ImageSpec) -> None:
    assert_close(encode(portrait(), "JPEG", quality=92), spec)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_so_is_nothing_but_sharp_edges(spec: ImageSpec) -> None:
    assert_close(encode(edges(), "JPEG", quality=92), spec, mean=4 * MEAN)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_so_is_every_kind_of_jpeg(mode: str, progressive: bool, subsampling: int) -> None:
    image = photo(801, 603).convert(mode)
    data = encode(image, "JPEG", quality=90, progressive=progressive, subsampling=subsampling)
    assert_close(data, SMALL)


@settings(max_examples=60)
@given(st.integers(97, 420), st.integers(97, 420), st.sampled_from(SPECS[:3]))
def test_so_is_every_size(width: int, height: int, spec: ImageSpec) -> None:
    assert_close(encode(photo(420, 420).crop((0, 0, width, height)), "JPEG", quality=90), spec)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("spec", SPECS[:3], ids=str)
def test_so_is_a_turned_one(orientation: int, spec: ImageSpec) -> None:
    # Odd sizes: the smaller scale adds part of a pixel on the right and below, before the turn.
    data = encode(photo(803, 605), "JPEG", quality=90, exif=turned(orientation))
    assert_close(data, spec)


def test_what_was_added_to_make_up_whole_pixels_is_left_out() -> None:
    """In 3 x 3 pixels, of 9 1/8 at the smaller scale, an eighth more would shift every edge."""
    data = encode(photo(73, 73), "JPEG", quality=95, subsampling=0)
    spec = ImageSpec(height=3, width=3, resize_shorter_side=3, interpolation="bilinear")
    draft = Image.open(io.BytesIO(data))
    draft.draft(None, (9, 9))
    assert draft.size == (10, 10)
    careless = np.abs(
        np.asarray(draft.resize((3, 3), 2)).astype(int) - evaluated(whole(data), spec)
    )
    assert off(data, spec).mean() < careless.mean() / 2


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_jpeg_that_is_not_so_large_comes_out_bit_for_bit(spec: ImageSpec) -> None:
    side = 2 * DRAFT_FACTOR * spec.resize_shorter_side - 1
    data = encode(photo(side + 70, side), "JPEG", quality=90)
    assert not off(data, spec).any()


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format_name", ["PNG", "JPEG"])
def test_training_sees_the_same_pixels(size: int, orientation: int, format_name: str) -> None:
    data = encode(photo(83, 61), format_name, exif=turned(orientation))
    config = DataConfig(image_size=size - 8, resize_shorter_side=size)
    expected = evaluation_transform(config)(whole(data)).permute(1, 2, 0).numpy()
    spec = ImageSpec(size - 8, size - 8, size, "bilinear")
    np.testing.assert_array_equal(decode_image(data, spec, LIMITS), expected)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_one_is_refused(progressive: bool) -> None:
    data = encode(photo(500, 375), "JPEG", quality=90, progressive=progressive)
    for length in range(2, len(data), 301):
        with pytest.raises(InvalidImage):
            decode_image(data[:length], SMALL, LIMITS)


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_is_refused_as_in_the_whole_image(progressive: bool) -> None:
    """Cut out of the middle, bent, or with the end that Pillow looks for put after the cut."""
    small, large = SMALL, ImageSpec(224, 224, 375, "bilinear")
    data = encode(photo(500, 375), "JPEG", quality=90, progressive=progressive)
    generator = np.random.default_rng(0)
    outcomes = []
    for _ in range(60):
        at, count = (int(number) for number in generator.integers(2, len(data) // 2, 2))
        for damaged in (
            data[:at] + data[at + count :],
            data[:at] + generator.bytes(8) + data[at + 8 :],
            data[:at] + b"\xff\xd9",
        ):
            refused = [_refused(damaged, spec) for spec in (small, large)]
            assert refused[0] == refused[1]
            outcomes.append(refused[0])
    assert any(outcomes)


def _refused(data: bytes, spec: ImageSpec) -> bool:
    try:
        decode_image(data, spec, LIMITS)
    except InvalidImage:
        return True
    return False


def test_the_limit_counts_the_pixels_of_the_header() -> None:
    data = encode(photo(500, 375), "JPEG")
    assert decode_image(data, SMALL, ImageLimits(max_pixels=500 * 375)).shape == (32, 32, 3)
    with pytest.raises(ImageTooLarge, match="500 x 375 pixels"):
        decode_image(data, SMALL, ImageLimits(max_pixels=500 * 375 - 1))


MEMORY = """
import sys
from pathlib import Path
from serving.images.decode import ImageLimits, decode_image
from serving.model.manifest import ImageSpec

def peak_mb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

warm, large = (Path(name).read_bytes() for name in sys.argv[1:])
decode_image(warm, ImageSpec(32, 32, 32, "bilinear"), ImageLimits())
before = peak_mb()
decode_image(large, ImageSpec(32, 32, 32, "bilinear"), ImageLimits())
print(peak_mb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_a_large_sequential_jpeg_is_never_held_whole(tmp_path: Path) -> None:
    files = {"warm": photo(500, 375), "large": Image.new("RGB", (4000, 3000), (9, 200, 90))}
    for name, image in files.items():
        (tmp_path / name).write_bytes(encode(image, "JPEG"))
    measured = subprocess.run(
        [sys.executable, "-c", MEMORY, *(str(tmp_path / name) for name in files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(measured.stdout) < 8  # whole, it takes 48
