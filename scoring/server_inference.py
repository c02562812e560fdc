"""Batches are answered by a server: a Triton with the self-routing graph, or `ride serve`."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from scoring.blocks import Block
from scoring.errors import ServerError
from scoring.inference import Inferred
from serving.dataplane.classification import Answer
from serving.engine.graphs import Engine
from serving.errors import BackendFault, DeadlineExceeded, Overloaded
from serving.model.manifest import MODEL_NAME, RULES_MODEL_NAME, SELF_ROUTING_MODEL_NAME
from serving.model.routing import RoutingRule
from serving.model.versions import ModelVersion
from serving.triton.answers import read_answer
from serving.triton.call import image_input, rule_inputs
from serving.triton.errors import BackendLost, error_of

_ANSWER_S = 60.0
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""After which a batch is sent again, for as long as the server is gone or has too much to do."""

_PASSING = (BackendLost, Overloaded, DeadlineExceeded)


class ServerInference:
    """One step: the server takes each image as far as the rule lets it. Several threads may ask.

    Of a rule that is the model's own, `ride_graph` is asked, or `ride` where there is no graph; of
    another one `ride_graph_rules`. The server must serve the very version of the repository here.
    """

    steps = 1

    def __init__(self, address: str, engine: Engine, rule: RoutingRule) -> None:
        """Connect to HOST:PORT.

        Raises:
            ServerError: if no server answers there, or none with such a model.
        """
        self._address = address
        self._version = ModelVersion(engine.version, engine.manifest)
        self._rule = None if rule == engine.rule() else rule
        self._client = InferenceServerClient(address)
        self._model = self._found()

    def _found(self) -> str:
        """The name of the model to ask."""
        names = [RULES_MODEL_NAME] if self._rule else [SELF_ROUTING_MODEL_NAME, MODEL_NAME]
        number = str(self._version.number)
        try:
            for name in names:
                if self._client.is_model_ready(name, number, client_timeout=_ANSWER_S):
                    return name
        except InferenceServerException as error:
            raise ServerError(
                f"no server of the Open Inference Protocol answers over gRPC at {self._address}: "
                "is it running, and is this its gRPC port (by default 8001)?"
            ) from error
        advice = ": ride export --rules-as-inputs writes it" if self._rule else ""
        raise ServerError(
            f"the server at {self._address} serves no {' or '.join(names)} in version {number}, "
            f"which is that of --model{advice}"
        )

    def infer(self, _: int, block: Block) -> Inferred:
        """As of every `BatchInference`."""
        reason: Exception | None = None
        for pause_s in (0.0, *_PAUSES_S):
            time.sleep(pause_s)
            try:
                answer = self._answer(block.inputs)
            except _PASSING as error:
                reason = error
                continue
            except Exception as error:
                raise ServerError(f"the server at {self._address} failed: {error}") from error
            if not answer.degraded:
                return Inferred(np.arange(len(block)), answer.routed)
            reason = Overloaded()
        raise ServerError(
            f"the server at {self._address} is gone or has too much to do ({reason}); the same "
            "command goes on from here"
        )

    def _answer(self, images: NDArray[np.uint8]) -> Answer:
        """Of images uint8 [N, H, W, 3]; raises RideError or BackendLost."""
        inputs = [image_input(images)]
        if self._rule is not None:
            inputs += rule_inputs(self._rule, len(images))
        try:
            result = self._client.infer(
                self._model,
                inputs,
                model_version=str(self._version.number),
                client_timeout=_ANSWER_S,
            )
        except InferenceServerException as failure:
            raise error_of(failure) from failure
        message = result.get_response()
        if message is None:
            raise BackendFault("its answer can't be read")
        return read_answer(message, self._version, len(images))
