"""Regions of shared memory: registered, listed, forgotten, refused, switched off."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from serving.dataplane.shared_memory import MAX_REGIONS, Place, SharedMemoryRegions
from serving.errors import Overloaded, RequestTooLarge, SettingsError
from tests.running.server import RunningServer, running_server
from tests.serving.dataplane.shared_memory.clients import (
    FOLDER,
    SIZE,
    Pixels,
    connected,
    module_of,
    statuses,
    stored_images,
    stored_output,
)

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the system has no /dev/shm")


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


def test_an_offset_of_null_is_none(sharing: RunningServer, handle: Any, key: str) -> None:
    region = "/v2/systemsharedmemory/region/of_null"
    body = {"key": key, "offset": None, "byte_size": 5}
    assert sharing.post(f"{region}/register", json=body).status_code == 200
    (known,) = sharing.get(f"{region}/status").json()
    assert known["offset"] == 0
    sharing.post(f"{region}/unregister")


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
