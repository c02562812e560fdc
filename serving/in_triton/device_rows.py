"""Tensors of Triton where they lie: in host memory as arrays, on a GPU by DLPack.

CuPy, which has numpy's functions for a GPU, is needed only where graphs run on one.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from serving.model.routing import Rows


def take_rows(name: str, tensor: Any, rows: Rows, batch: int) -> Any:
    """A tensor of this name with some rows of another one, which has `batch` rows."""
    if not tensor.is_cpu():
        return pb_utils.Tensor.from_dlpack(name, _rows(_cupy(), tensor, rows))
    array = tensor.as_numpy()
    return pb_utils.Tensor(name, array if len(rows) == batch else array[rows])


def host_array(tensor: Any) -> NDArray[np.float32]:
    """A tensor as an array, brought from the device if that is where it lies."""
    array: NDArray[np.float32]
    array = tensor.as_numpy() if tensor.is_cpu() else _cupy().asnumpy(_cupy().from_dlpack(tensor))
    return array


def _rows(xp: ModuleType, tensor: Any, rows: Rows) -> Any:
    """Rows of anything that speaks DLPack, as a new array of numpy or CuPy."""
    return xp.from_dlpack(tensor)[xp.asarray(rows)]


def _cupy() -> Any:
    import cupy  # noqa: PLC0415 on a GPU only

    return cupy
