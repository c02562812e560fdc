"""A server of the Open Inference Protocol over gRPC: Triton, or our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from serving.dataplane.catalogue import ModelDescription
from serving.dataplane.tensors import Datatype, TensorSpec
from serving.errors import BackendFault
from serving.tracing.terminal import escaped
from serving.triton.answers import read_outputs
from verify.errors import VerificationError
from verify.responses import Prediction, Rejection, Response, predictions_of

InputRow: TypeAlias = NDArray[np.uint8] | bytes
"""A decoded image or an encoded one."""

BATCH_SIZES = (1, 2, 7, 32)
"""Rows of one request after the other, so that every way of batching is met."""

_CONNECT_S = 10.0
_ANSWER_S = 60.0
_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""After which a request is sent again, for as long as the server is busy."""
_IN_FLIGHT = 4
_MOST_BYTES = 8 * 2**20
"""Of one request, unless it has one row: less than any server's limit."""
_LONGEST = 200
"""Characters of what a server says that are shown."""
_REFUSALS = {f"StatusCode.{code}" for code in ("INVALID_ARGUMENT", "INTERNAL", "UNKNOWN")}
"""Status codes that say something of a request, not of the server; Triton's backends use all."""
_BUSY = {f"StatusCode.{code}" for code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE")}
"""Of our server and of Triton. gRPC's own code for a server that is gone is UNAVAILABLE too."""


class _RequestRejected(Exception):
    """A request that the server answers with an error, in words that can be printed."""


class ServerBusy(Exception):
    """A request that the server might answer as it should a moment later; says why, printable."""


class InferenceServer:
    """A server that is ready and has the models. Get one from `connect`.

    Attributes:
        name: what the server calls itself.
        version: of the server.
    """

    def __init__(
        self, client: InferenceServerClient, address: str, name: str, version: str
    ) -> None:
        self.name = name
        self.version = version
        self._client = client
        self._address = address
        self._free = asyncio.Semaphore(_IN_FLIGHT)

    async def infer(self, model: ModelDescription, rows: Sequence[InputRow]) -> list[Response]:
        """A response to each row, from requests of 1, 2, 7, 32, 1, .. rows, some at the same time.

        Raises:
            VerificationError: if the server stops answering, or is of another model or version.
        """
        responses = await asyncio.gather(
            *(self._responses(model, batch) for batch in request_batches(rows))
        )
        return [response for batch in responses for response in batch]

    async def _responses(
        self, model: ModelDescription, rows: Sequence[InputRow]
    ) -> Sequence[Response]:
        try:
            return await self._infer(model, rows)
        except _RequestRejected as refused:
            if len(rows) == 1:
                return [Rejection(str(refused))]
        # One bad row fails its whole request.
        return [response for row in rows for response in await self._responses(model, [row])]

    async def _infer(self, model: ModelDescription, rows: Sequence[InputRow]) -> list[Prediction]:
        sent = _input(model.input, rows)
        async with self._free:
            reason = ""
            for pause_s in (0.0, *_PAUSES_S):
                await asyncio.sleep(pause_s)
                try:
                    return read_predictions(await self._answer(model, sent), model, len(rows))
                except ServerBusy as busy:
                    reason = str(busy)
        raise VerificationError(
            f"the server at {self._address} is gone or under load ({reason}): keep other clients "
            "away from it while it is compared"
        )

    async def _answer(self, model: ModelDescription, sent: InferInput) -> Any:
        """The `ModelInferResponse`."""
        try:
            result = await self._client.infer(model.name, [sent], client_timeout=_ANSWER_S)
        except InferenceServerException as error:
            if error.status() in _REFUSALS:
                raise _RequestRejected(_shown(error.message() or "no reason given")) from None
            if error.status() in _BUSY:
                raise ServerBusy(_reason(error)) from None
            raise VerificationError(
                f"the server at {self._address} stopped answering: {_reason(error)}"
            ) from None
        return result.get_response()


@asynccontextmanager
async def connect(
    address: str, models: Sequence[ModelDescription], wait_s: float = _CONNECT_S
) -> AsyncIterator[InferenceServer]:
    """A server at `HOST:PORT`, which has `wait_s` to answer each question about itself.

    Raises:
        VerificationError: if nothing answers there, or without these models.
    """
    if "://" in address or ":" not in address:
        raise VerificationError(f"--triton takes HOST:PORT, as localhost:8001, not {address!r}")
    async with InferenceServerClient(address) as client:
        try:
            metadata = await client.get_server_metadata(client_timeout=wait_s)
        except InferenceServerException as error:
            raise VerificationError(
                f"no server of the Open Inference Protocol answers over gRPC at {address}: "
                f"{_reason(error)}. Is it running, and is this its gRPC port (by default 8001)?"
            ) from None
        for model in models:
            if not await _is_ready(client, model, wait_s):
                raise VerificationError(f"the server at {address} serves no model {model.name!r}")
        yield InferenceServer(client, address, _shown(metadata.name), _shown(metadata.version))


def request_batches(rows: Sequence[InputRow]) -> Iterator[Sequence[InputRow]]:
    """All rows in order, in requests of 1, 2, 7, 32, 1, .. rows; fewer where they are large."""
    sizes = cycle(BATCH_SIZES)
    batch: list[InputRow] = []
    room, free = next(sizes), _MOST_BYTES
    for row in rows:
        size = len(row) if isinstance(row, bytes) else row.nbytes
        if batch and (len(batch) == room or size > free):
            yield batch
            batch, room, free = [], next(sizes), _MOST_BYTES
        batch.append(row)
        free -= size
    if batch:
        yield batch


def read_predictions(message: Any, model: ModelDescription, rows: int) -> list[Prediction]:
    """The predictions in a `ModelInferResponse`.

    Raises:
        VerificationError: if they are of another version, or of other shapes or types.
        ServerBusy: if the server made them cheaper than they were asked for.
    """
    if message.model_version != model.version:
        raise VerificationError(
            f"the server answers with version {_shown(message.model_version)} of {model.name}, "
            f"and the latest of the repository here is {model.version}"
        )
    if "degraded" in message.parameters:
        raise ServerBusy("it makes its answers cheaper")
    try:
        return predictions_of(read_outputs(message, model.outputs, rows, "the server"))
    except BackendFault as fault:
        raise VerificationError(f"{escaped(str(fault))}: is {model.name} another model?") from None


def _input(spec: TensorSpec, rows: Sequence[InputRow]) -> InferInput:
    if spec.datatype is Datatype.BYTES:
        tensor: NDArray[Any] = np.empty(len(rows), dtype=object)
        tensor[:] = rows
    else:
        tensor = np.stack(rows)
    sent = InferInput(spec.name, list(tensor.shape), str(spec.datatype))
    sent.set_data_from_numpy(tensor)
    return sent


async def _is_ready(client: InferenceServerClient, model: ModelDescription, wait_s: float) -> bool:
    try:
        ready: bool = await client.is_model_ready(model.name, client_timeout=wait_s)
    except InferenceServerException:  # one way of saying that there is no such model
        return False
    return ready


def _reason(error: InferenceServerException) -> str:
    code = str(error.status()).removeprefix("StatusCode.")
    return _shown(f"{code}, {error.message()}")


def _shown(text: str) -> str:
    """What a server says, however long and odd it is."""
    return escaped(text[:_LONGEST])
