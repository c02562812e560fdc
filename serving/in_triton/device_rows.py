"""Rows of a tensor of Triton, picked where it lies: in host memory, or on a GPU by DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from serving.routing import Rows


def take_rows(name: str, tensor: Any, rows: Rows, batch: int) -> Any:
    """A tensor of this name with some rows of another one that has `batch` rows."""
    if tensor.is_cpu():
        array = tensor.as_numpy()
        return pb_utils.Tensor(name, array if len(rows) == batch else array[rows])
    return pb_utils.Tensor.from_dlpack(name, device_rows(tensor, rows))


def host_array(tensor: Any) -> NDArray[np.float32]:
    """A tensor as an array, brought from the device if that is where it lies."""
    array: NDArray[np.float32]
    array = tensor.as_numpy() if tensor.is_cpu() else _torch().from_dlpack(tensor).cpu().numpy()
    return array


def device_rows(tensor: Any, rows: Rows) -> Any:
    """Rows of anything that speaks DLPack, on its own device; contiguous."""
    torch = _torch()
    values = torch.from_dlpack(tensor)
    return values.index_select(0, torch.from_numpy(rows).to(values.device))


def _torch() -> Any:
    """PyTorch, which only a GPU instance needs: something must pick rows on the device."""
    import torch  # noqa: PLC0415

    return torch
