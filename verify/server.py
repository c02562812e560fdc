"""A server of the Open Inference Protocol over gRPC: Triton, or our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from export.errors import VerificationError
from serving.dataplane.catalogue import ModelDescription
from serving.dataplane.tensors import Datatype, TensorSpec
from serving.model.routing import Routed
from verify.printable import printable
from verify.replies import Answer, Refusal, Reply, answers_of

Row: TypeAlias = NDArray[np.uint8] | bytes
"""A prepared image or an encoded one."""

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


class _Refused(Exception):
    """A request that the server answers with an error, in words that can be printed."""


class Busy(Exception):
    """A request that the server might answer as it should a moment later; says why, printable."""


class InferenceServer:
    """A server that is ready and has the models. Get one from `connected`.

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

    async def ask(self, model: ModelDescription, rows: Sequence[Row]) -> list[Reply]:
        """A reply to each row, from requests of 1, 2, 7, 32, 1, .. rows, some at the same time.

        Raises:
            VerificationError: if the server stops answering, or is of another model or version.
        """
        replies = await asyncio.gather(*(self._replies(model, batch) for batch in batches(rows)))
        return [reply for batch in replies for reply in batch]

    async def _replies(self, model: ModelDescription, rows: Sequence[Row]) -> Sequence[Reply]:
        try:
            return await self._infer(model, rows)
        except _Refused as refused:
            if len(rows) == 1:
                return [Refusal(str(refused))]
        # One bad row fails its whole request.
        return [reply for row in rows for reply in await self._replies(model, [row])]

    async def _infer(self, model: ModelDescription, rows: Sequence[Row]) -> list[Answer]:
        sent = _input(model.input, rows)
        async with self._free:
            reason = ""
            for pause_s in (0.0, *_PAUSES_S):
                await asyncio.sleep(pause_s)
                try:
                    return read_answers(await self._result(model, sent), model, len(rows))
                except Busy as busy:
                    reason = str(busy)
        raise VerificationError(
            f"the server at {self._address} is gone or under load ({reason}): keep other clients "
            "away from it while it is compared"
        )

    async def _result(self, model: ModelDescription, sent: InferInput) -> InferResult:
        try:
            return await self._client.infer(model.name, [sent], client_timeout=_ANSWER_S)
        except InferenceServerException as error:
            if error.status() in _REFUSALS:
                raise _Refused(_shown(error.message() or "no reason given")) from None
            if error.status() in _BUSY:
                raise Busy(_reason(error)) from None
            raise VerificationError(
                f"the server at {self._address} stopped answering: {_reason(error)}"
            ) from None


@asynccontextmanager
async def connected(
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


def batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """All rows in order, in requests of 1, 2, 7, 32, 1, .. rows; fewer where they are large."""
    sizes = cycle(BATCH_SIZES)
    batch: list[Row] = []
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


def read_answers(result: InferResult, model: ModelDescription, rows: int) -> list[Answer]:
    """The answers in a response.

    Raises:
        VerificationError: if they are of another version, or of other shapes or types.
        Busy: if the server made them cheaper than they were asked for.
    """
    response = result.get_response()
    if response.model_version != model.version:
        raise VerificationError(
            f"the server answers with version {_shown(response.model_version)} of {model.name}, "
            f"and the latest of the repository here is {model.version}"
        )
    if "degraded" in response.parameters:
        raise Busy("it makes its answers cheaper")
    return answers_of(
        Routed(**{spec.name: _output(result, model.name, spec, rows) for spec in model.outputs})
    )


def _output(result: InferResult, model: str, spec: TensorSpec, rows: int) -> NDArray[Any]:
    wanted = [rows, *spec.shape[1:]]
    output = result.get_output(spec.name)
    if output is None:
        raise VerificationError(f"the server's model {model} has no output {spec.name!r}")
    if output.datatype != spec.datatype or list(output.shape) != wanted:
        found = f"{_shown(output.datatype)} {list(output.shape)}"
        raise VerificationError(
            f"the server's model {model} gives {spec.name} as {found}, and that of the repository "
            f"here as {spec.datatype} {wanted}: is it another model?"
        )
    try:
        array: NDArray[Any] = result.as_numpy(spec.name)
    except ValueError:
        raise VerificationError(
            f"the server's model {model} gives {spec.name} with too few or too many bytes"
        ) from None
    return array


def _input(spec: TensorSpec, rows: Sequence[Row]) -> InferInput:
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
    return printable(text[:_LONGEST])
