"""Clients that ask all the time whether the server is there keep their connection and calls."""

from __future__ import annotations

import queue
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.running.server import RunningServer
from tests.serving.grpc.test_server import message

TIMEOUT_S = 30
A_WHILE_S = 4.0
OPTIONS = (
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 1_000 * TIMEOUT_S),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
"""The most that gRPC's clients do: a ping a second. By its defaults, its server bears with two."""

PINGS = 100
PING, GOAWAY, ACKNOWLEDGED = 6, 7, 1
"""Of HTTP/2 frames: types, and a flag."""


@contextmanager
def pinging(server: RunningServer) -> Iterator[tuple[Any, list[grpc.ChannelConnectivity]]]:
    """A client whose channel pings, and the states that the channel was in."""
    states: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(server.grpc_address, OPTIONS) as channel:
        channel.subscribe(states.append)
        grpc.channel_ready_future(channel).result(TIMEOUT_S)
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel), states
        assert states[-1] is grpc.ChannelConnectivity.READY
        assert states.count(grpc.ChannelConnectivity.READY) == 1, states


def test_a_client_without_calls_stays_connected(server: RunningServer) -> None:
    with pinging(server) as (stub, _):
        assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=TIMEOUT_S).live
        time.sleep(A_WHILE_S)


def test_an_idle_stream_goes_on(server: RunningServer) -> None:
    requests: queue.Queue[Any] = queue.Queue()
    with pinging(server) as (stub, _):
        answers = stub.ModelStreamInfer(iter(requests.get, None), timeout=TIMEOUT_S)
        for _ in range(2):
            requests.put(message((1, 32, 32, 3), bytes(3072)))
            assert next(answers).infer_response.outputs
            time.sleep(A_WHILE_S)
        requests.put(None)
        assert not list(answers)


def test_calls_under_way_are_answered(server: RunningServer, pixels: NDArray[np.uint8]) -> None:
    request = message((480, 32, 32, 3), np.tile(pixels, (10, 1, 1, 1)).tobytes())
    request.parameters["threshold"].double_param = 0.0
    with pinging(server) as (stub, _):
        for call in [stub.ModelInfer.future(request, timeout=TIMEOUT_S) for _ in range(2)]:
            assert list(call.result().outputs[1].shape) == [480]


def test_every_ping_is_answered(server: RunningServer) -> None:
    """Faster than any client of gRPC's sends them, with no call under way."""
    host, _, port = server.grpc_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4))
        received = frames(connection)
        for number in range(PINGS):
            sent = struct.pack(">Q", number)
            connection.sendall(frame(PING, sent))
            kind, flags, content = next(each for each in received if each[0] in (PING, GOAWAY))
            assert (kind, flags, content) == (PING, ACKNOWLEDGED, sent)


def frame(kind: int, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, 0, 0) + content


def frames(connection: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    with connection.makefile("rb") as stream:
        while head := stream.read(9):
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            yield kind, flags, stream.read(length)
