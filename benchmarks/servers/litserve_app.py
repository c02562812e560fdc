"""The routed model behind LitServe. Arguments: port, workers."""

# No `from __future__ import annotations`: LitServe reads annotations at run time.
import base64
import os
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from fastapi import Request

from benchmarks.images import decode
from benchmarks.raw import load_classifier


class Ride(litserve.LitAPI):
    """Decodes, classifies, answers the best class."""

    def setup(self, device: Any) -> None:  # noqa: ARG002 LitServe's signature
        """Load the graphs into this worker."""
        self.classify = load_classifier("routed", Path(os.environ["RIDE_BENCH_REPOSITORY"]))

    def decode_request(self, request: Request) -> Any:
        """The image's pixels; `Request` asks for any JSON, which comes parsed."""
        return decode(base64.b64decode(request["image"]))

    def predict(self, x: Any) -> Any:
        """Probabilities and experts used."""
        return self.classify(x[np.newaxis])

    def encode_response(self, output: Any) -> Any:
        """JSON."""
        probabilities, experts = output
        return {"index": int(probabilities[0].argmax()), "experts_used": experts}


if __name__ == "__main__":
    server = litserve.LitServer(Ride(), accelerator="cpu", workers_per_device=int(sys.argv[2]))
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
