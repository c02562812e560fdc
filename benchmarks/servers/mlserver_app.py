"""The routed model behind MLServer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.images import decode
from benchmarks.raw import load_classifier


class Ride(MLModel):
    """Decodes, classifies, answers probabilities and experts used."""

    async def load(self) -> bool:
        """Load the graphs into this worker."""
        self._classify = load_classifier("routed", Path(os.environ["RIDE_BENCH_REPOSITORY"]))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Of one image."""
        (file,) = Base64Codec.decode_input(payload.inputs[0])
        probabilities, experts = self._classify(decode(file)[np.newaxis])
        outputs = [
            NumpyCodec.encode_output("probabilities", probabilities),
            NumpyCodec.encode_output("experts_used", np.array([experts], dtype=np.int32)),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
