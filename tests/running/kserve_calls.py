"""Runs in the environment of KServe's client: asks a server everything that the client can.

Reads from standard input what to ask, as JSON, and prints the answers as JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def pixels(asked: dict[str, Any], *, binary: bool) -> InferRequest:
    image = InferInput("image", asked["shape"], "UINT8")
    raw = np.frombuffer(base64.b64decode(asked["pixels"]), np.uint8).reshape(asked["shape"])
    image.set_data_from_numpy(raw, binary_data=binary)
    return InferRequest("ride", [image], request_id="42")


def files(asked: dict[str, Any]) -> InferRequest:
    """Image files as texts of base64, the only form that its JSON has for bytes."""
    texts = np.array([text.encode() for text in asked["files"]], dtype=np.object_)
    image = InferInput("image_bytes", [len(texts)], "BYTES")
    image.set_data_from_numpy(texts, binary_data=False)
    return InferRequest("ride_image", [image])


def told(response: Any) -> dict[str, Any]:
    outputs = {each.name: np.asarray(each.as_numpy()).tolist() for each in response.outputs}
    return {"id": response.id, "model": response.model_name, **outputs}


async def rest(asked: dict[str, Any]) -> dict[str, Any]:
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        url = asked["url"]
        return {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model ready": await client.is_model_ready(url, "ride"),
            "other ready": await client.is_model_ready(url, "resnet"),
            "json": told(await client.infer(url, pixels(asked, binary=False), "ride")),
            "binary": told(await client.infer(url, pixels(asked, binary=True), "ride")),
            "files": told(await client.infer(url, files(asked), "ride_image")),
        }


async def grpc(asked: dict[str, Any]) -> dict[str, Any]:
    async with InferenceGRPCClient(asked["grpc"], retries=0) as client:
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model ready": await client.is_model_ready("ride"),
            "typed": told(await client.infer(pixels(asked, binary=False))),
            "binary": told(await client.infer(pixels(asked, binary=True))),
            "files": told(await client.infer(files(asked))),
        }


async def health(asked: dict[str, Any]) -> dict[str, Any]:
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        return {
            "live": await client.is_server_live(asked["url"]),
            "ready": await client.is_server_ready(asked["url"]),
        }


CALLS = {"rest": rest, "grpc": grpc, "health": health}

if __name__ == "__main__":
    print(json.dumps(asyncio.run(CALLS[sys.argv[1]](json.load(sys.stdin)))))
