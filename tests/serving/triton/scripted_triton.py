"""A gRPC server that stands where Triton would and answers what a test tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from serving.model.manifest import Manifest
from tests.running.server import RunningServer, running_server

_SERVICE = "inference.GRPCInferenceService"

Tensors = dict[str, tuple[str, NDArray[Any]]]
"""Outputs by name: the datatype that is claimed, and the array whose shape and bytes are sent."""


class ScriptedTriton:
    """Ready with version 1 and with good answers, until a test changes that.

    Attributes:
        address: HOST:PORT.
        ready: what it says of itself.
        versions: what it says that it serves; none for a model that is not ready.
        infer: makes the answer of a request; it may abort the call, or give raw bytes.
        requests: those that it got.
    """

    def __init__(self, num_classes: int, num_experts: int) -> None:
        self.address = ""
        self.ready = True
        self.versions = ["1"]
        self.requests: list[Any] = []
        self._classes, self._experts = num_classes, num_experts
        self.infer: Callable[[Any, Any], Any] = self.good

    def good(self, request: Any, _: Any) -> Any:
        """An answer that fits the model."""
        return self.answer(self.tensors(request.inputs[0].shape[0]))

    def tensors(self, rows: int) -> Tensors:
        """The outputs of such an answer, for a test to spoil."""
        probabilities = np.full((rows, self._classes), 1 / self._classes, np.float32)
        scores = np.full((rows, self._experts - 1), np.nan, np.float32)
        return {
            "probabilities": ("FP32", probabilities),
            "experts_used": ("INT32", np.ones(rows, np.int32)),
            "router_scores": ("FP32", scores),
        }

    def answer(self, tensors: Tensors, version: str = "1") -> Any:
        """The message that holds these outputs."""
        message = service_pb2.ModelInferResponse(model_name="ride", model_version=version)
        for name, (datatype, array) in tensors.items():
            message.outputs.add(name=name, datatype=datatype, shape=array.shape)
            message.raw_output_contents.append(array.tobytes())
        return message

    def server_ready(self, *_: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=self.ready)

    def model_ready(self, *_: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=bool(self.versions))

    def model_metadata(self, *_: Any) -> Any:
        return service_pb2.ModelMetadataResponse(name="ride", versions=self.versions)

    def model_infer(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return self.infer(request, context)


@contextmanager
def scripted_triton(num_classes: int, num_experts: int) -> Iterator[ScriptedTriton]:
    """Serve on a free port."""
    triton = ScriptedTriton(num_classes, num_experts)
    calls = {
        "ServerReady": (triton.server_ready, service_pb2.ServerReadyRequest),
        "ModelReady": (triton.model_ready, service_pb2.ModelReadyRequest),
        "ModelMetadata": (triton.model_metadata, service_pb2.ModelMetadataRequest),
        "ModelInfer": (triton.model_infer, service_pb2.ModelInferRequest),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(call, request.FromString, _serialized)
        for name, (call, request) in calls.items()
    }
    server = grpc.server(
        ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 2**20)]
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, handlers)])
    triton.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield triton
    finally:
        server.stop(None).wait()


def _serialized(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())


@contextmanager
def front_of_good_triton(
    manifest: Manifest, repository: Path, log: Path, flags: Sequence[str] = ()
) -> Iterator[RunningServer]:
    """A server in front of one that always answers well."""
    with (
        scripted_triton(manifest.num_classes, manifest.num_experts) as triton,
        running_server(repository, log, (f"--triton={triton.address}", *flags)) as running,
    ):
        yield running
