"""The decoding benchmark: its table times the server's own way to a tensor."""

from __future__ import annotations

import re

import numpy as np

from benchmarks.studies.decoding import (
    SPECS,
    Upload,
    decoding_table,
    encoded,
    photograph,
    served,
    trained,
)

FIGURES = re.compile(r" +(\d+\.\d)((?: +\d+\.\d{3} +\(\d+\.\d{3}\)){2})$")


def test_a_photograph_is_the_same_each_time_and_has_all_levels() -> None:
    image = np.asarray(photograph(90, 61))
    assert image.shape == (61, 90, 3)
    np.testing.assert_array_equal(image, np.asarray(photograph(90, 61)))
    assert (image != np.asarray(photograph(90, 61, seed=1))).any()
    assert image.max() - image.min() > 200
    # Neighbours resemble each other, as they do in photographs.
    steps = np.abs(np.diff(image.astype(int), axis=1)).mean()
    assert steps < image.std() / 2


def test_what_is_compared_has_the_same_outcome() -> None:
    upload = Upload("a PNG", encoded(photograph(90, 61), "PNG"))
    for spec in SPECS:
        expected = np.asarray(trained(upload, spec)()).transpose(1, 2, 0)
        np.testing.assert_array_equal(served(upload, spec)(), expected)


def test_every_image_has_a_line_of_times() -> None:
    kinds = {"PNG": "PNG", "a JPEG with some more to its name": "JPEG"}
    images = [Upload(name, encoded(photograph(90, 61), kind)) for name, kind in kinds.items()]
    head, *rows = decoding_table(images, seconds=1e-6)
    assert "32 x 32" in head
    assert "224 x 224" in head
    for name, row in zip(kinds, rows, strict=True):
        assert row.startswith(f"{name}  ")
        found = FIGURES.search(row)
        assert found is not None
        assert all(float(time) > 0 for time in re.findall(r"\d+\.\d{3}", found[2]))
