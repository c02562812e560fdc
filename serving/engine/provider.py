"""ONNX Runtime's execution providers: where graphs run, chosen by a flag, never by accident."""

from __future__ import annotations

from enum import StrEnum


class Provider(StrEnum):
    """Where graphs run."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"

    @property
    def onnx_name(self) -> str:
        """ONNX Runtime's name of it."""
        return _ONNX_NAMES[self]

    @property
    def device(self) -> str:
        """Where it keeps tensors, as ONNX Runtime's IO binding calls it."""
        return "cpu" if self is Provider.CPU else "cuda"

    @property
    def fallbacks(self) -> list[str]:
        """ONNX Runtime's names of it and of those that take single operators it can't run."""
        names = list(_ONNX_NAMES.values())
        return names[names.index(self.onnx_name) :]


_ONNX_NAMES = {
    Provider.TENSORRT: "TensorrtExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.CPU: "CPUExecutionProvider",
}
"""Fastest first: each falls back on those after it for operators that it lacks."""
