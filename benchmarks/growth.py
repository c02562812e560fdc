"""How cost grows with the size of images, of requests and of the crowd.

A network of random weights is exported for each image size; its routers always send images on, so
that every image takes all experts and the work is the same at every point.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import drive
from benchmarks.errors import LoadFailed
from benchmarks.images import SampleImages, noise_images
from benchmarks.plan import Plan
from benchmarks.servers.ride import PATIENT, PIXELS_WAY, WAYS, with_flags
from benchmarks.servers.server import HttpWay, running
from export.graphs import split_model
from export.repository import publish, staged_version
from serving.model.manifest import ImageSpec, Manifest
from training.costs import multiply_adds
from training.model import RideModel
from training.presets import preset

IMAGE_SIZES = (32, 64, 128, 224)
BATCHES = (1, 4, 16, 64, 256)
CLIENTS = (1, 4, 16, 64, 256, 512)
_CLASSES = 100
_IMAGES = 16
_POINT_SHARE = 0.3
"""Of the time for a point: there are many of them."""


def growth(plan: Plan) -> dict[str, Any]:
    """Measure each of the three rows."""
    duration_s = plan.duration_s * _POINT_SHARE
    rows: dict[str, Any] = {"image_size": [], "batch": [], "clients": []}
    with tempfile.TemporaryDirectory() as folder:
        for size in IMAGE_SIZES:
            plan.say(f"growth: images of {size} by {size} pixels")
            repository = export_random(size, Path(folder) / str(size))
            rows["image_size"].append(_point(repository, size, 1, 4, duration_s))
        small = Path(folder) / str(IMAGE_SIZES[0])
        for batch in BATCHES:
            plan.say(f"growth: {batch} images a request")
            rows["batch"].append(_point(small, IMAGE_SIZES[0], batch, 4, duration_s))
        for clients in CLIENTS:
            plan.say(f"growth: {clients} clients")
            rows["clients"].append(_point(small, IMAGE_SIZES[0], 1, clients, duration_s))
    return rows


def export_random(size: int, target: Path) -> Path:
    """Export a ResNet-32 with three experts that nobody trained, for images of a size."""
    config = replace(preset("cifar100-lt").model, num_classes=_CLASSES)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RideModel(config).eval()
    names = tuple(f"class_{i}" for i in range(_CLASSES))
    manifest = Manifest(
        class_names=names,
        class_counts=(1,) * _CLASSES,
        image=ImageSpec(size, size, size, "bilinear"),
        thresholds=(0.0,) * (config.num_experts - 1),
        multiply_adds=multiply_adds(model, size),
        graphs={},
        gears={},
        corrections=(),
        evaluation={},
        provenance={},
        precision="fp32",
        quantization=None,
    )
    with staged_version(split_model(model, size), manifest, target) as staged:
        publish(staged, target)
    return target


def _point(
    repository: Path, size: int, batch: int, clients: int, duration_s: float
) -> dict[str, Any]:
    images = noise_images(_IMAGES, size)
    way = HttpWay(
        PIXELS_WAY.path,
        lambda some: [_batch(some, start, batch) for start in range(_IMAGES)],
        PIXELS_WAY.headers,
    )
    try:
        # Every answer is wanted here, however long it takes.
        with running(with_flags(WAYS[0], PATIENT), repository) as server:
            point = drive.closed(
                server, way, images, clients=clients, duration_s=duration_s, trial=clients
            )
    except LoadFailed as error:  # the other points may be fine
        return {"size": size, "batch": batch, "clients": clients, "failed": str(error)}
    result = {**asdict(point), "size": size, "batch": batch}
    result["images_per_s"] *= batch
    result["cpu_ms_per_image"] /= batch
    return result


def _batch(images: SampleImages, start: int, batch: int) -> bytes:
    return b"".join(images.pixels[(start + i) % _IMAGES].tobytes() for i in range(batch))
