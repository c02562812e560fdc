"""One Triton server: a connection, whether it is ready, and with which version of the model."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from serving.dataplane.classification import Answer
from serving.errors import BackendFault, ModelRepositoryError
from serving.model.manifest import MODEL_NAME
from serving.model.parameters import CostParameters
from serving.model.versions import ModelVersion, ModelVersions
from serving.tracing.request_context import current_request
from serving.tracing.request_ids import REQUEST_ID
from serving.triton.answers import read_answer
from serving.triton.call import call_of
from serving.triton.errors import error_of

logger = logging.getLogger(__name__)

_CHECK_EVERY_S = 1.0
_CHECK_TIMEOUT_S = 3.0
_MICROSECONDS = 1e6
_LONGEST_REASON = 300
_VERSION = re.compile("[1-9][0-9]{0,17}")

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A peer that vanished without a word is pinged after 2 s and given up 3 s later. The checks
    # keep the connection in use, without which servers would take so many pings for an attack.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),  # in newer versions this is what counts
    ("grpc.http2.max_pings_without_data", 0),
    # A server that comes back is found within a second or so.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


@dataclass(frozen=True)
class _Serving:
    """A server that can be asked; see `TritonBackend`."""

    model: ModelVersion
    ready: bool


class _NotServing(Exception):
    """Why a server can't be asked; `for_clients` where waiting does not help."""

    def __init__(self, reason: str, for_clients: str | None = None) -> None:
        super().__init__(reason)
        self.for_clients = for_clients


class TritonBackend:
    """One Triton server: a connection, and what is known of it.

    Attributes:
        address: HOST:PORT.
        model: the version that it serves; None while it can't be asked.
        ready: whether it says so itself, which means that every model is, so every expert too.
        in_doubt: whether it has to be checked first, because a call failed or none was made yet.
        for_clients: why it is not ready, where waiting does not help.
        state: the same in words, for its operator.
    """

    def __init__(self, address: str, versions: ModelVersions, name: str = MODEL_NAME) -> None:
        """Of a server that is asked for the model of this name."""
        self.address = address
        self._name = name
        self.model: ModelVersion | None = None
        self.ready = False
        self.in_doubt = True
        self.for_clients: str | None = None
        self.state = "not asked yet"
        self._under_way = 0
        self._last_turn = 0
        self._versions = versions
        self._client = InferenceServerClient(address, channel_args=_CHANNEL_OPTIONS)
        self._wake = asyncio.Event()

    def doubt(self, reason: str) -> None:
        """A call was lost: have it checked at once; until then it is not asked."""
        if not self.in_doubt:
            logger.warning("Triton at %s was lost in a request: %.500r", self.address, reason)
        self.model, self.ready, self.in_doubt = None, False, True
        self._wake.set()

    async def close(self) -> None:
        """End its connection."""
        await self._client.close()

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The least goes first: the ready, those with few requests, those who waited longest."""
        return not self.ready, self._under_way, self._last_turn

    @contextmanager
    def busy(self, turn: int) -> Iterator[None]:
        """Count a request, the `turn`-th of all, for the length of a `with` block."""
        self._last_turn = turn
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def infer(
        self,
        model: ModelVersion,
        images: NDArray[np.uint8],
        parameters: CostParameters,
        timeout_s: float,
    ) -> Answer:
        """Classify prepared images, uint8 [N, H, W, 3], with a version.

        Raises:
            BackendLost: if another server should be asked.
            InvalidRequest: for parameters that the model refuses.
            DeadlineExceeded: if it takes longer.
            Overloaded: if the server has too much to do.
            BackendFault: if it fails, or its answer does not fit the model.
        """
        call = call_of(self._name, images, parameters, model.manifest)
        try:
            result = await self._client.infer(
                self._name,
                call.inputs,
                model_version=str(model.number),
                timeout=max(1, int(timeout_s * _MICROSECONDS)),
                client_timeout=timeout_s,
                parameters=call.parameters,
                headers=_headers(),
            )
            message = result.get_response()
            if message is None:  # gRPC has logged why
                raise BackendFault("Triton's answer can't be read")
            return read_answer(message, model, len(images))
        except InferenceServerException as failure:
            error = error_of(failure)
            if isinstance(error, BackendFault):
                logger.error("Triton at %s failed a request: %.2000r", self.address, str(failure))
            raise error from None
        except BackendFault as fault:
            logger.error("Triton at %s: %s", self.address, fault)
            raise

    async def watch(self, changed: asyncio.Condition) -> None:
        """Check it again and again, at once after a call failed; notify of every verdict."""
        while True:
            self._wake.clear()
            verdict = await self._checked()
            if self._wake.is_set():
                continue  # a call failed meanwhile, perhaps after the server had said it was well
            self._settle(verdict)
            async with changed:
                changed.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_EVERY_S):
                    await self._wake.wait()

    async def _checked(self) -> _Serving | _NotServing:
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                return await self._check()
        except _NotServing as reason:
            return reason
        except TimeoutError:
            return _NotServing(f"it does not answer within {_CHECK_TIMEOUT_S:g} s")
        except InferenceServerException as failure:
            return _NotServing((failure.message() or "it refuses")[:_LONGEST_REASON])
        except Exception as error:  # noqa: BLE001, whatever it answers, it is checked again
            return _NotServing(f"its answer can't be read: {error!r}")

    async def _check(self) -> _Serving:
        """What it serves.

        Raises:
            _NotServing: if it serves nothing.
        """
        ready = await self._client.is_server_ready()
        metadata = await self._client.get_model_metadata(self._name)
        number = self._newest(metadata.versions)
        if not await self._client.is_model_ready(self._name, str(number)):
            raise _NotServing(f"version {number} of its model {self._name!r} is not")
        try:
            return _Serving(await self._versions.find(number), ready)
        except ModelRepositoryError as error:
            raise _NotServing(
                f"it serves version {number}, and {error}",
                f"Triton serves version {number} of the model, "
                "which is not in this server's model repository",
            ) from None

    def _newest(self, versions: Iterable[str]) -> int:
        """What Triton takes where a request names no version."""
        numbers = [int(version) for version in versions if _VERSION.fullmatch(version)]
        if not numbers:
            raise _NotServing(f"it names no version of its model {self._name!r}")
        return max(numbers)

    def _settle(self, verdict: _Serving | _NotServing) -> None:
        self.in_doubt = False
        if isinstance(verdict, _Serving):
            self.model, self.ready, self.for_clients = verdict.model, verdict.ready, None
            if verdict.ready:
                self._tell(logging.INFO, f"ready with version {verdict.model.number}")
            else:
                number = verdict.model.number
                self._tell(logging.WARNING, f"not ready, though it serves version {number}")
        else:
            self.model, self.ready, self.for_clients = None, False, verdict.for_clients
            level = logging.ERROR if verdict.for_clients else logging.WARNING
            self._tell(level, f"not ready: {verdict}")

    def _tell(self, level: int, state: str) -> None:
        if state != self.state:
            self.state = state
            logger.log(level, "Triton at %s is %s", self.address, state)


def _headers() -> dict[str, str]:
    """By which Triton's log and trace can be matched with ours."""
    request = current_request()
    if request is None:
        return {}
    its_id = {REQUEST_ID: request.request_id}
    return its_id if request.trace is None else its_id | request.trace.headers
