"""The routed model behind BentoML."""

# No `from __future__ import annotations`: BentoML reads the annotations of an API at run time.
import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from PIL.Image import Image

from benchmarks.raw import load_classifier


@bentoml.service(workers=int(os.environ.get("RIDE_BENCH_WORKERS", "1")), traffic={"timeout": 120})
class Ride:
    """Decodes, classifies, answers the best class."""

    def __init__(self) -> None:
        self._classify = load_classifier("routed", Path(os.environ["RIDE_BENCH_REPOSITORY"]))

    @bentoml.api
    def classify(self, image: Image) -> dict[str, Any]:
        """Of one image."""
        probabilities, experts = self._classify(np.asarray(image.convert("RGB"))[np.newaxis])
        return {"index": int(probabilities[0].argmax()), "experts_used": experts}
