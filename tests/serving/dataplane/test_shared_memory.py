"""Tensors in system shared memory: tritonclient unchanged, and clients that mean harm."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as shm
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from serving.dataplane.shared_memory import MAX_REGIONS, Place, Region, SharedMemoryRegions
from serving.engine.graphs import Engine
from serving.errors import InvalidRequest, Overloaded, RequestTooLarge, SettingsError
from tests.running.server import RunningServer, running_server

Pixels = NDArray[np.uint8]
OUTPUTS = ("probabilities", "experts_used", "router_scores")
FOLDER = Path("/dev/shm")
SIZE = 400_000
MEBIBYTE = 2**20

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the system has no /dev/shm")


@pytest.fixture(scope="module")
def sharing(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that reads and writes shared memory, inputs of at most 1 MiB."""
    log = tmp_path_factory.mktemp("sharing") / "log.txt"
    flags = ("--shared-memory", "--max-body-mib=1")
    with running_server(repository, log, flags) as running:
        yield running
        assert running.process.poll() is None
    assert "Traceback" not in log.read_text(), log.read_text()


def http_address(server: RunningServer) -> str:
    return server.url.removeprefix("http://")


@contextmanager
def connected(server: RunningServer, transport: str) -> Iterator[Any]:
    module = tritonclient.grpc if transport == "grpc" else tritonclient.http
    address = server.grpc_address if transport == "grpc" else http_address(server)
    with closing(module.InferenceServerClient(address)) as client:
        yield client


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, sharing: RunningServer) -> Iterator[Any]:
    with connected(sharing, request.param) as client:
        yield client
        client.unregister_system_shared_memory()


@pytest.fixture(params=["http", "grpc"])
def usual_client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    """Of a server without the flag."""
    with connected(server, request.param) as client:
        yield client


def module_of(client: Any) -> Any:
    return tritonclient.grpc if "grpc" in type(client).__module__ else tritonclient.http


@pytest.fixture
def key() -> Iterator[str]:
    """The key of an object that is not made yet."""
    key = f"/ride_test_{uuid4().hex}"
    yield key
    (FOLDER / key[1:]).unlink(missing_ok=True)


@pytest.fixture
def handle(key: str) -> Iterator[Any]:
    """Shared memory of `SIZE` bytes under the key."""
    handle = shm.create_shared_memory_region("memory", key, SIZE)
    yield handle
    shm.destroy_shared_memory_region(handle)


@pytest.fixture
def memory(client: Any, handle: Any, key: str) -> Any:
    """The same, registered as `memory`."""
    client.register_system_shared_memory("memory", key, SIZE)
    return handle


def stored_images(module: Any, count: int, offset: int = 0) -> Any:
    tensor = module.InferInput("image", [count, 32, 32, 3], "UINT8")
    tensor.set_shared_memory("memory", count * 3072, offset)
    return tensor


def stored_output(module: Any, name: str, byte_size: int, offset: int = 0) -> Any:
    output = module.InferRequestedOutput(name)
    output.set_shared_memory("memory", byte_size, offset)
    return output


def described(result: Any, name: str) -> dict[str, Any]:
    """All that the answer says of an output."""
    output = result.get_output(name)
    if isinstance(output, dict):
        return output
    fields = {field.name: value for field, value in output.ListFields()}
    return {**fields, "shape": list(output.shape)}


def test_images_and_answers_pass_through_memory_alone(
    client: Any, memory: Any, engine: Engine, pixels: Pixels
) -> None:
    module, count = module_of(client), len(pixels)
    start = 1_000
    shm.set_shared_memory_region(memory, [pixels], start)
    places = {"probabilities": 200_000, "experts_used": 300_000, "router_scores": 310_000}
    expected = engine.classify(pixels, engine.rule())
    outputs = [
        stored_output(module, name, getattr(expected, name).nbytes, offset)
        for name, offset in places.items()
    ]
    result = client.infer("ride", [stored_images(module, count, start)], outputs=outputs)
    for name, offset in places.items():
        array = getattr(expected, name)
        kind = np.int32 if name == "experts_used" else np.float32
        found = shm.get_contents_as_numpy(memory, kind, array.shape, offset)
        np.testing.assert_allclose(found, array, atol=1e-5)
        datatype = "INT32" if name == "experts_used" else "FP32"
        expected_fields = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        assert described(result, name) == expected_fields
        del found


def test_some_outputs_are_stored_and_others_sent(
    client: Any, memory: Any, engine: Engine, pixels: Pixels
) -> None:
    module, images = module_of(client), pixels[:5]
    shm.set_shared_memory_region(memory, [images])
    outputs = [
        stored_output(module, "probabilities", 100_000, 100_000),
        module.InferRequestedOutput("experts_used"),
        module.InferRequestedOutput("router_scores"),
    ]
    result = client.infer("ride", [stored_images(module, 5)], outputs=outputs)
    expected = engine.classify(images, engine.rule())
    np.testing.assert_array_equal(result.as_numpy("experts_used"), expected.experts_used)
    np.testing.assert_allclose(result.as_numpy("router_scores"), expected.router_scores, atol=1e-5)
    found = shm.get_contents_as_numpy(memory, np.float32, (5, 100), 100_000)
    np.testing.assert_allclose(found, expected.probabilities, atol=1e-5)
    del found


def test_an_input_may_be_stored_and_outputs_all_sent(
    client: Any, memory: Any, engine: Engine, pixels: Pixels
) -> None:
    shm.set_shared_memory_region(memory, [pixels])
    result = client.infer("ride", [stored_images(module_of(client), len(pixels))])
    expected = engine.classify(pixels, engine.rule())
    for name in OUTPUTS:
        np.testing.assert_allclose(result.as_numpy(name), getattr(expected, name), atol=1e-5)


def test_image_files_may_be_stored(
    client: Any, memory: Any, engine: Engine, pixels: Pixels, pictures: tuple[bytes, ...]
) -> None:
    raw = serialize_byte_tensor(np.array(pictures, dtype=np.object_)).item()
    shm.set_shared_memory_region(memory, [np.frombuffer(raw, np.uint8)])
    tensor = module_of(client).InferInput("image_bytes", [len(pictures)], "BYTES")
    tensor.set_shared_memory("memory", len(raw))
    found = client.infer("ride_image", [tensor]).as_numpy("probabilities")
    expected = engine.classify(pixels, engine.rule()).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_large_inputs_are_read_too(client: Any, key: str, engine: Engine, pixels: Pixels) -> None:
    """Large enough to be copied on another thread than the one that answers."""
    images = np.tile(pixels, (6, 1, 1, 1))
    with closing(shm.create_shared_memory_region("large", key, images.nbytes)._mpsm_handle) as made:
        made.buf[: images.nbytes] = images.tobytes()
        client.register_system_shared_memory("memory", key, images.nbytes)
        found = client.infer("ride", [stored_images(module_of(client), len(images))])
        expected = engine.classify(images, engine.rule()).probabilities
        np.testing.assert_allclose(found.as_numpy("probabilities"), expected, atol=1e-5)
        made.unlink()


def test_a_region_may_begin_anywhere_in_its_object(
    client: Any, handle: Any, key: str, engine: Engine, pixels: Pixels
) -> None:
    shm.set_shared_memory_region(handle, [pixels[:2]], offset=77)
    client.register_system_shared_memory("memory", key, 3 * 3072, offset=77)
    found = client.infer("ride", [stored_images(module_of(client), 1, 3072)])
    expected = engine.classify(pixels[1:2], engine.rule()).probabilities
    np.testing.assert_allclose(found.as_numpy("probabilities"), expected, atol=1e-5)


async def ask_aio(module: Any, address: str, key: str, images: Pixels) -> list[Any]:
    async with module.aio.InferenceServerClient(address) as client:
        await client.register_system_shared_memory("memory", key, SIZE)
        assert await client.get_system_shared_memory_status()
        requests = [
            client.infer("ride", [stored_images(module, 1, row * 3072)])
            for row in range(len(images))
        ]
        results = await asyncio.gather(*requests)
        await client.unregister_system_shared_memory("memory")
        return results


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_asyncio_clients_share_memory_too(
    sharing: RunningServer, handle: Any, key: str, engine: Engine, pixels: Pixels, transport: str
) -> None:
    shm.set_shared_memory_region(handle, [pixels[:8]])
    module = tritonclient.grpc if transport == "grpc" else tritonclient.http
    address = sharing.grpc_address if transport == "grpc" else http_address(sharing)
    results = asyncio.run(ask_aio(module, address, key, pixels[:8]))
    expected = engine.classify(pixels[:8], engine.rule()).probabilities
    found = np.concatenate([result.as_numpy("probabilities") for result in results])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def statuses(client: Any, name: str = "") -> dict[str, dict[str, Any]]:
    """The status of regions by their names, whichever way it came."""
    if module_of(client) is tritonclient.http:
        return {each["name"]: each for each in client.get_system_shared_memory_status(name)}
    regions = client.get_system_shared_memory_status(name, as_json=True).get("regions", {})
    return {
        key: {**each, "offset": int(each.get("offset", 0)), "byte_size": int(each["byte_size"])}
        for key, each in regions.items()
    }


def test_regions_are_listed_and_forgotten(client: Any, handle: Any, key: str) -> None:
    assert statuses(client) == {}
    client.register_system_shared_memory("one", key, 100)
    client.register_system_shared_memory("two", key, 50, offset=10)
    one = {"name": "one", "key": key, "offset": 0, "byte_size": 100}
    two = {"name": "two", "key": key, "offset": 10, "byte_size": 50}
    assert statuses(client) == {"one": one, "two": two}
    assert statuses(client, "two") == {"two": two}
    client.unregister_system_shared_memory("one")
    assert statuses(client) == {"two": two}
    with pytest.raises(InferenceServerException, match="no shared memory region 'one'"):
        client.get_system_shared_memory_status("one")
    client.register_system_shared_memory("one", key, 7)
    client.unregister_system_shared_memory()
    assert statuses(client) == {}


def test_a_name_is_taken_until_it_is_unregistered(client: Any, memory: Any, key: str) -> None:
    with pytest.raises(InferenceServerException, match="there is a shared memory region 'memory'"):
        client.register_system_shared_memory("memory", key, 5)
    assert statuses(client)["memory"]["byte_size"] == SIZE


def test_what_is_not_registered_may_be_unregistered(client: Any) -> None:
    client.unregister_system_shared_memory("nobody")
    client.unregister_system_shared_memory()


def test_a_key_needs_no_slash(client: Any, handle: Any, key: str) -> None:
    """As with shm_open of glibc."""
    client.register_system_shared_memory("memory", key[1:], 5)


def test_both_transports_know_the_same_regions(
    sharing: RunningServer, handle: Any, key: str
) -> None:
    with connected(sharing, "http") as http, connected(sharing, "grpc") as grpc:
        http.register_system_shared_memory("memory", key, 9)
        assert statuses(grpc) == statuses(http)
        grpc.unregister_system_shared_memory("memory")
        assert statuses(http) == {}


def test_the_extension_is_listed_where_it_is_switched_on(client: Any, usual_client: Any) -> None:
    def extensions(client: Any) -> list[str]:
        options = {} if module_of(client) is tritonclient.http else {"as_json": True}
        return list(client.get_server_metadata(**options)["extensions"])

    assert "system_shared_memory" in extensions(client)
    assert "system_shared_memory" not in extensions(usual_client)


# What a client may do wrong


BAD_OBJECTS: dict[str, tuple[dict[str, Any], str]] = {
    "no object": ({"key": "/ride_test_no_such"}, "can't be opened: No such file"),
    "no key": ({"key": ""}, "a key must be a slash and a name"),
    "only a slash": ({"key": "/"}, "a key must be a slash and a name"),
    "two slashes": ({"key": "//etc"}, "a key must be a slash and a name"),
    "another folder": ({"key": "/../etc/passwd"}, "a key must be a slash and a name"),
    "the folder": ({"key": "/."}, "a key must be a slash and a name"),
    "the folder above": ({"key": ".."}, "a key must be a slash and a name"),
    "a zero byte": ({"key": "/a\0b"}, "a key must be a slash and a name"),
    "a long key": ({"key": "/" + "a" * 10_000}, "a key must be a slash and a name"),
    "long in UTF-8": ({"key": "/" + "ü" * 200}, "can't be opened: File name too long"),
    "no bytes": ({"byte_size": 0}, "byte_size must be above 0"),
    "beyond the end": ({"byte_size": SIZE + 1}, f"{SIZE + 1}, and the shared memory object"),
    "begins too late": ({"offset": SIZE, "byte_size": 1}, "and the shared memory object"),
    "huge offset": ({"offset": 2**63 - 1}, "and the shared memory object"),
    "huge size": ({"byte_size": 2**63 - 1}, "and the shared memory object"),
    "both huge": ({"offset": 2**63, "byte_size": 2**63}, "and the shared memory object"),
    "a long name": ({"name": "n" * 300}, "must have 1 to 255 characters"),
}


@pytest.mark.parametrize(("changes", "sentence"), BAD_OBJECTS.values(), ids=BAD_OBJECTS)
def test_a_region_that_makes_no_sense_is_refused(
    client: Any, handle: Any, key: str, changes: dict[str, Any], sentence: str
) -> None:
    wanted = {"name": "memory", "key": key, "byte_size": SIZE, **changes}
    with pytest.raises(InferenceServerException, match=sentence):
        client.register_system_shared_memory(**wanted)
    assert statuses(client) == {}


def make_link(path: Path, target: Path) -> None:
    target.write_bytes(bytes(100))
    path.symlink_to(target)


THINGS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "link": (make_link, "can't be opened: Too many levels of symbolic links"),
    "pipe": (lambda path, _: os.mkfifo(path), "is not that of a shared memory object"),
    "folder": (lambda path, _: path.mkdir(), "can't be opened: Is a directory"),
}


@pytest.mark.parametrize(("make", "sentence"), THINGS.values(), ids=THINGS)
def test_only_plain_memory_is_opened(
    client: Any,
    key: str,
    tmp_path: Path,
    make: Callable[[Path, Path], None],
    sentence: str,
) -> None:
    path = FOLDER / key[1:]
    make(path, tmp_path / "file")
    try:
        with pytest.raises(InferenceServerException, match=sentence):
            client.register_system_shared_memory("memory", key, 10)
    finally:
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is open to root")
def test_memory_of_others_is_not_opened(client: Any, handle: Any, key: str) -> None:
    (FOLDER / key[1:]).chmod(0o400)
    with pytest.raises(InferenceServerException, match="can't be opened: Permission denied"):
        client.register_system_shared_memory("memory", key, 10)


def test_there_are_not_endlessly_many_regions(client: Any, handle: Any, key: str) -> None:
    for place in range(MAX_REGIONS):
        client.register_system_shared_memory(f"region {place}", key, 1, place)
    with pytest.raises(InferenceServerException, match=f"there are {MAX_REGIONS} shared memory"):
        client.register_system_shared_memory("one more", key, 1)
    client.unregister_system_shared_memory("region 7")
    client.register_system_shared_memory("one more", key, 1)


BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the body must be a JSON object"),
    "no JSON": (b"{", "the body must be a JSON object"),
    "a list": (b"[]", "the body must be a JSON object"),
    "no key": (b'{"byte_size": 4}', "the parameter 'key' is wrong: Field required"),
    "a number as key": (b'{"key": 4, "byte_size": 4}', "the parameter 'key' is wrong"),
    "a text as size": (b'{"key": "/a", "byte_size": "4"}', "the parameter 'byte_size' is wrong"),
    "half a byte": (b'{"key": "/a", "byte_size": 0.5}', "the parameter 'byte_size' is wrong"),
    "negative size": (b'{"key": "/a", "byte_size": -4}', "byte_size must be above 0"),
    "negative offset": (
        b'{"key": "/a", "byte_size": 4, "offset": -1}',
        "offset must not be negative",
    ),
    "endless size": (b'{"key": "/a", "byte_size": 1%s}' % (b"0" * 5000), "a JSON object"),
    "a large body": (b" " * 100_000, "the body must have at most 65536 bytes"),
}


@pytest.mark.parametrize(("body", "sentence"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_that_registers_nothing_is_refused(
    sharing: RunningServer, body: bytes, sentence: str
) -> None:
    response = sharing.post("/v2/systemsharedmemory/region/memory/register", content=body)
    assert response.status_code == 400, response.text
    assert sentence in response.json()["error"]


def ask(
    server: RunningServer,
    input_parameters: dict[str, Any],
    output_parameters: dict[str, Any] | None = None,
    raw: bytes = b"",
    **fields: Any,
) -> httpx.Response:
    """A request for one image, its input and the output `probabilities` as the parameters say."""
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3], **fields}
    document: dict[str, Any] = {"inputs": [{**tensor, "parameters": input_parameters}]}
    if output_parameters is not None:
        document["outputs"] = [{"name": "probabilities", "parameters": output_parameters}]
    head = json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return server.post("/v2/models/ride/infer", content=head + raw, headers=headers)


def place(region: object = "memory", byte_size: object = 3072, **more: object) -> dict[str, Any]:
    return {
        "shared_memory_region": region,
        "shared_memory_byte_size": byte_size,
        **{f"shared_memory_{name}": value for name, value in more.items()},
    }


@pytest.fixture
def registered(sharing: RunningServer, handle: Any, key: str) -> Iterator[RunningServer]:
    """The server once `memory` is registered."""
    with connected(sharing, "http") as client:
        client.register_system_shared_memory("memory", key, SIZE)
        yield sharing
        client.unregister_system_shared_memory()


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
    "no offset": (400, place(offset=None), SAYS_NOT),
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


def test_texts_of_the_best_classes_may_be_stored(
    registered: RunningServer, handle: Any, engine: Engine
) -> None:
    response = ask(registered, place(), {**place(byte_size=1000, offset=5000), "classification": 3})
    described = {"name": "probabilities", "datatype": "BYTES", "shape": [1, 3]}
    assert response.json()["outputs"] == [described]
    raw = bytes(handle._mpsm_handle.buf[5000:6000])
    best = engine.classify(np.zeros((1, 32, 32, 3), np.uint8), engine.rule()).probabilities[0]
    for index in np.argsort(-best)[:3]:
        length = struct.unpack_from("<I", raw)[0]
        text, raw = raw[4 : 4 + length].decode(), raw[4 + length :]
        value, found, name = text.split(":")
        assert (int(found), name) == (index, engine.manifest.class_names[index])
        assert float(value) == pytest.approx(best[index], abs=1e-5)
    assert not any(raw)


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


def test_regions_may_be_unregistered_while_they_are_used(
    sharing: RunningServer, handle: Any, key: str, engine: Engine, pixels: Pixels
) -> None:
    """Each request gets the right answer, or learns that its region is gone."""
    shm.set_shared_memory_region(handle, [pixels])
    expected = engine.classify(pixels, engine.rule()).probabilities

    async def use() -> list[Any]:
        async with tritonclient.grpc.aio.InferenceServerClient(sharing.grpc_address) as client:

            async def change() -> None:
                for _ in range(40):
                    await client.register_system_shared_memory("memory", key, SIZE)
                    await asyncio.sleep(0.01)
                    await client.unregister_system_shared_memory("memory")

            tensor = stored_images(tritonclient.grpc, len(pixels))
            output = tritonclient.grpc.InferRequestedOutput("probabilities")
            output.set_shared_memory("memory", expected.nbytes, 200_000)
            changing = asyncio.create_task(change())
            outcomes: list[Any] = []
            while not changing.done():
                some = [client.infer("ride", [tensor], outputs=[output]) for _ in range(4)]
                outcomes += await asyncio.gather(*some, return_exceptions=True)
            await changing
            return outcomes

    outcomes = asyncio.run(use())
    refused = [each for each in outcomes if isinstance(each, InferenceServerException)]
    assert len(refused) < len(outcomes)
    for each in refused:
        assert "there is no shared memory region 'memory'" in str(each)
    found = shm.get_contents_as_numpy(handle, np.float32, expected.shape, 200_000)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    del found


def open_objects(server: RunningServer) -> list[str]:
    """The shared memory objects that the server holds open."""
    links = []
    for file in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(file.readlink()))
    return [link for link in links if link.startswith(str(FOLDER))]


def test_what_is_unregistered_is_closed(
    sharing: RunningServer, client: Any, memory: Any, key: str, pixels: Pixels
) -> None:
    shm.set_shared_memory_region(memory, [pixels[:1]])
    client.infer("ride", [stored_images(module_of(client), 1)])
    assert open_objects(sharing) == [f"{FOLDER}{key}"]
    with pytest.raises(InferenceServerException):
        client.register_system_shared_memory("other", key, SIZE + 1)
    with pytest.raises(InferenceServerException):
        client.infer("ride", [stored_images(module_of(client), 1, SIZE - 5)])
    client.unregister_system_shared_memory("memory")
    assert open_objects(sharing) == []


def test_what_requests_copy_together_is_bounded(handle: Any, key: str) -> None:
    regions = SharedMemoryRegions(enabled=True, max_input_bytes=60, max_total_bytes=100)
    regions.register("memory", key, 0, SIZE)
    whole, half = Place("memory", 0, 60), Place("memory", 0, 50)
    with regions.reading(half), regions.reading(half), pytest.raises(Overloaded):
        regions.reading(Place("memory", 0, 1)).__enter__()
    with regions.reading(whole), pytest.raises(Overloaded):
        regions.reading(half).__enter__()
    with regions.reading(whole) as piece:
        assert len(piece.read()) == 60
    with pytest.raises(RequestTooLarge):
        regions.reading(Place("memory", 0, 61)).__enter__()


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


# Switched off, and CUDA


def test_a_system_without_such_memory_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("serving.dataplane.shared_memory._FOLDER", tmp_path / "none")
    SharedMemoryRegions(enabled=False, max_input_bytes=1, max_total_bytes=1)
    with pytest.raises(SettingsError, match="shared memory needs "):
        SharedMemoryRegions(enabled=True, max_input_bytes=1, max_total_bytes=1)


def test_a_variable_switches_it_on(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIDE_SHARED_MEMORY", "1")
    with running_server(repository, tmp_path / "log.txt", ["--no-grpc"]) as running:
        assert "system_shared_memory" in running.get("/v2").json()["extensions"]


def test_without_the_flag_memory_is_not_touched(usual_client: Any, handle: Any, key: str) -> None:
    with pytest.raises(InferenceServerException, match="ride serve --shared-memory allows it"):
        usual_client.register_system_shared_memory("memory", key, SIZE)
    module = module_of(usual_client)
    with pytest.raises(InferenceServerException, match="ride serve --shared-memory allows it"):
        usual_client.infer("ride", [stored_images(module, 1)])
    sent = module.InferInput("image", [1, 32, 32, 3], "UINT8")
    sent.set_data_from_numpy(np.zeros((1, 32, 32, 3), np.uint8))
    output = stored_output(module, "probabilities", 400)
    with pytest.raises(InferenceServerException, match="ride serve --shared-memory allows it"):
        usual_client.infer("ride", [sent], outputs=[output])
    assert statuses(usual_client) == {}
    usual_client.unregister_system_shared_memory()


def test_there_is_no_cuda_shared_memory(client: Any) -> None:
    status = client.get_cuda_shared_memory_status()
    assert list(status if module_of(client) is tritonclient.http else status.regions) == []
    client.unregister_cuda_shared_memory()
    client.unregister_cuda_shared_memory("memory")
    with pytest.raises(InferenceServerException, match="this server has no CUDA shared memory"):
        client.register_cuda_shared_memory("memory", b"aGFuZGxl", 0, 100)
    with pytest.raises(InferenceServerException, match="no CUDA shared memory region 'memory'"):
        client.get_cuda_shared_memory_status("memory")


def test_the_statuses_are_tritons(sharing: RunningServer, server: RunningServer) -> None:
    cuda = sharing.post("/v2/cudasharedmemory/region/memory/register", content=b"{}")
    off = server.post(
        "/v2/systemsharedmemory/region/memory/register", content=b'{"key": "/a", "byte_size": 1}'
    )
    missing = sharing.get("/v2/systemsharedmemory/region/memory/status")
    assert [cuda.status_code, off.status_code, missing.status_code] == [501, 501, 404]
