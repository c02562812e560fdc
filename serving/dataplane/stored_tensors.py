"""Tensors of a request in shared memory: its input copied from there, its outputs put there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from serving.dataplane.inference import InferResponse, StoredInput, WantedOutput
from serving.dataplane.shared_memory import Piece, SharedMemoryRegions
from serving.dataplane.tensors import Array, decode_raw, encode_raw

Result = TypeVar("Result")

_QUICK_BYTES = 256 * 1024
"""More is copied off the event loop, so that nobody else waits for it."""


def pieces_of(outputs: Iterable[WantedOutput], regions: SharedMemoryRegions) -> dict[str, Piece]:
    """Where each output goes that is wanted in shared memory, by its name.

    Raises:
        As `SharedMemoryRegions.piece`.
    """
    return {
        output.name: regions.piece(output.place) for output in outputs if output.place is not None
    }


@asynccontextmanager
async def loaded(data: Array | StoredInput, regions: SharedMemoryRegions) -> AsyncIterator[Array]:
    """A request's input; one that lies in shared memory is copied, and counts until the end.

    Raises:
        InvalidRequest: if the memory does not hold what the input's shape says.
        As `SharedMemoryRegions.reading`.
    """
    if not isinstance(data, StoredInput):
        yield data
        return
    with regions.reading(data.place) as piece:
        yield await _off_loop(
            data.place.byte_size, lambda: decode_raw(piece.read(), data.spec, data.shape)
        )


async def stored(response: InferResponse, pieces: Mapping[str, Piece]) -> InferResponse:
    """The answer once its outputs lie in shared memory; nothing is written unless all fit."""
    if not pieces:
        return response
    contents = {
        tensor.wanted.name: encode_raw(tensor.array)
        for tensor in response.outputs
        if tensor.wanted.name in pieces
    }
    for name, content in contents.items():
        pieces[name].require_room(name, len(content))
    for name, content in contents.items():
        await _off_loop(len(content), partial(pieces[name].write, content))
    outputs = (
        replace(tensor, stored=True) if tensor.wanted.name in contents else tensor
        for tensor in response.outputs
    )
    return replace(response, outputs=tuple(outputs))


async def _off_loop(byte_size: int, copy: Callable[[], Result]) -> Result:
    """Copy at once what is small, and on another thread what would make others wait."""
    return copy() if byte_size <= _QUICK_BYTES else await asyncio.to_thread(copy)
