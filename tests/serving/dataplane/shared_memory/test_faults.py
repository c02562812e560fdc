"""Places and memory that are not what a request says of them."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from serving.dataplane.shared_memory import Region
from serving.engine.graphs import Engine
from serving.errors import InvalidRequest
from tests.running.server import RunningServer
from tests.serving.dataplane.shared_memory.clients import (
    FOLDER,
    MEBIBYTE,
    SIZE,
    Pixels,
    ask,
    connected,
    module_of,
    place,
    stored_images,
    stored_output,
)

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the system has no /dev/shm")


HALF = {"shared_memory_region": "memory"}
SAYS_NOT = "must be whole numbers, not negative"
BAD_PLACES: dict[str, tuple[int, dict[str, Any], str]] = {
    "unknown region": (404, place("nowhere"), "there is no shared memory region 'nowhere'"),
    "no size": (400, HALF, "go together"),
    "no region": (400, {"shared_memory_byte_size": 3072}, "go together"),
    "only an offset": (400, {"shared_memory_offset": 3072}, "go together"),
    "a number as region": (400, place(7), "go together"),
    "negative offset": (400, place(offset=-1), SAYS_NOT),
    "negative size": (400, place(byte_size=-3072), SAYS_NOT),
    "size as text": (400, place(byte_size="3072"), SAYS_NOT),
    "size as truth": (400, place(byte_size=True), SAYS_NOT),
    "offset as fraction": (400, place(offset=0.5), SAYS_NOT),
    "huge offset": (400, place(offset=2**63), "don't lie within the shared memory region"),
    "over the end": (400, place(offset=SIZE - 3071), "don't lie within the shared memory region"),
    "huge size": (400, place(byte_size=2**64 - 1), "don't lie within the shared memory region"),
}


@pytest.mark.parametrize(("status", "parameters", "sentence"), BAD_PLACES.values(), ids=BAD_PLACES)
def test_a_place_that_makes_no_sense_is_refused(
    registered: RunningServer, status: int, parameters: dict[str, Any], sentence: str
) -> None:
    for response in (ask(registered, parameters), ask(registered, place(), parameters)):
        assert response.status_code == status, response.text
        assert sentence in response.json()["error"]


BAD_INPUTS: dict[str, tuple[Callable[[RunningServer], httpx.Response], str]] = {
    "too few bytes": (lambda server: ask(server, place(byte_size=3071)), "has 3071 bytes"),
    "too many bytes": (lambda server: ask(server, place(byte_size=3073)), "has 3073 bytes"),
    "no bytes": (lambda server: ask(server, place(byte_size=0)), "has 0 bytes"),
    "JSON data too": (lambda server: ask(server, place(), data=[0] * 3072), "and is sent too"),
    "raw data too": (
        lambda server: ask(server, {**place(), "binary_data_size": 3072}, raw=bytes(3072)),
        "and is sent too",
    ),
    "raw data that nobody claims": (
        lambda server: ask(server, place(), raw=bytes(3072)),
        "and is sent too",
    ),
}


@pytest.mark.parametrize(("send", "sentence"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_an_input_that_does_not_fit_its_tensor_is_refused(
    registered: RunningServer, send: Callable[[RunningServer], httpx.Response], sentence: str
) -> None:
    response = send(registered)
    assert response.status_code == 400, response.text
    assert sentence in response.json()["error"]


def test_grpc_refuses_an_input_that_is_sent_too(registered: RunningServer) -> None:
    sentence = "lies in shared memory, and is sent too"
    raw, typed = (stored_images(tritonclient.grpc, 1) for _ in range(2))
    raw._raw_content = bytes(3072)
    typed._input.contents.uint_contents.append(1)
    with connected(registered, "grpc") as client:
        for tensor in (raw, typed):
            with pytest.raises(InferenceServerException, match=sentence):
                client.infer("ride", [tensor])


@pytest.mark.parametrize("classes", [0, 5])
def test_nothing_is_written_where_an_output_has_no_room(
    registered: RunningServer, handle: Any, classes: int
) -> None:
    """Neither a tensor of numbers nor one of texts, whose length is known late."""
    mark = np.full(SIZE // 2, 7, np.uint8)
    shm.set_shared_memory_region(handle, [mark], SIZE // 2)
    wanted = {"classification": classes} if classes else {}
    response = ask(registered, place(), {**place(byte_size=99, offset=SIZE // 2), **wanted})
    assert response.status_code == 400
    takes = r"the output 'probabilities' takes \d+ bytes, and shared_memory_byte_size is 99"
    assert re.fullmatch(takes, response.json()["error"])
    assert bytes(handle._mpsm_handle.buf[SIZE // 2 :]) == mark.tobytes()


def test_memory_that_is_cut_short_harms_only_its_request(
    client: Any, memory: Any, key: str, engine: Engine, pixels: Pixels
) -> None:
    """A server that mapped it would be killed by SIGBUS."""
    module = module_of(client)
    os.truncate(FOLDER / key[1:], 100)
    with pytest.raises(InferenceServerException, match="is smaller than when it was registered"):
        client.infer("ride", [stored_images(module, 1)])
    sent = module.InferInput("image", [1, 32, 32, 3], "UINT8")
    sent.set_data_from_numpy(pixels[:1])
    output = stored_output(module, "probabilities", 400)
    with pytest.raises(InferenceServerException, match="is smaller than when it was registered"):
        client.infer("ride", [sent], outputs=[output])
    assert (FOLDER / key[1:]).stat().st_size == 100
    expected = engine.classify(pixels[:1], engine.rule()).probabilities
    found = client.infer("ride", [sent]).as_numpy("probabilities")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    os.truncate(FOLDER / key[1:], SIZE)


def test_an_input_above_the_limit_is_refused(client: Any, key: str) -> None:
    size = MEBIBYTE + 1
    with closing(shm.create_shared_memory_region("big", key, size)._mpsm_handle) as made:
        client.register_system_shared_memory("memory", key, size)
        tensor = module_of(client).InferInput("image_bytes", [1], "BYTES")
        tensor.set_shared_memory("memory", size)
        with pytest.raises(InferenceServerException, match=f"larger than {MEBIBYTE} bytes"):
            client.infer("ride_image", [tensor])
        made.unlink()


def test_memory_that_the_system_can_not_give_is_the_clients_error(handle: Any, key: str) -> None:
    """A limit on files stands for a full `/dev/shm`: both are errors of pwrite."""
    region = Region("memory", key, 0, SIZE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(InvalidRequest, match="'memory' can't be written: File too large"):
            region.write(200, b"answer")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    region.write(200, b"answer")
    assert bytes(region.read(199, 8)) == b"\0answer\0"
