"""Tensors in system shared memory: tritonclient unchanged."""

from __future__ import annotations

import asyncio
import struct
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from serving.engine.graphs import Engine
from tests.running.server import RunningServer
from tests.serving.dataplane.shared_memory.clients import (
    FOLDER,
    OUTPUTS,
    SIZE,
    Pixels,
    ask,
    described,
    http_address,
    module_of,
    place,
    stored_images,
    stored_output,
)

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the system has no /dev/shm")


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
