"""What tests of shared memory ask, whichever way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from numpy.typing import NDArray

from tests.running.server import RunningServer

Pixels = NDArray[np.uint8]
OUTPUTS = ("probabilities", "experts_used", "router_scores")
FOLDER = Path("/dev/shm")
SIZE = 400_000
MEBIBYTE = 2**20


def http_address(server: RunningServer) -> str:
    return server.url.removeprefix("http://")


@contextmanager
def connected(server: RunningServer, transport: str) -> Iterator[Any]:
    module = tritonclient.grpc if transport == "grpc" else tritonclient.http
    address = server.grpc_address if transport == "grpc" else http_address(server)
    with closing(module.InferenceServerClient(address)) as client:
        yield client


def module_of(client: Any) -> Any:
    return tritonclient.grpc if "grpc" in type(client).__module__ else tritonclient.http


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


def statuses(client: Any, name: str = "") -> dict[str, dict[str, Any]]:
    """The status of regions by their names, whichever way it came."""
    if module_of(client) is tritonclient.http:
        return {each["name"]: each for each in client.get_system_shared_memory_status(name)}
    regions = client.get_system_shared_memory_status(name, as_json=True).get("regions", {})
    return {
        key: {**each, "offset": int(each.get("offset", 0)), "byte_size": int(each["byte_size"])}
        for key, each in regions.items()
    }


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
