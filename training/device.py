"""Where the model runs, and in which number format."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from serving.engine.cores import usable_cores
from training.choices import Precision
from training.errors import ConfigError
from training.processes import local_device_index

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class ComputeDevice:
    """A device, the precision of its forward and backward passes (never `AUTO`), and whether the
    model is compiled (`torch.compile`).
    """

    device: torch.device
    precision: Precision
    compiled: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 where it was chosen; a no-op otherwise."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision is Precision.BF16
        )

    def place(self, model: Model) -> Model:
        """Move a model here, and compile it where that is wanted.

        It is compiled for the first size of batch; on CUDA it becomes one CUDA graph.
        """
        # Convolutions are faster with channels last on every machine that was measured.
        model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.compiled:
            mode = "reduce-overhead" if self.device.type == "cuda" else None
            model.compile(mode=mode, dynamic=False)
        return model

    @property
    def name(self) -> str:
        """The accelerator's or processor's name, for provenance."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


class FullBatches:
    """A compiled model for batches of the largest size seen so far, the plain one for smaller ones.

    The last batch of an epoch is smaller, and not worth a compilation of its own.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._size = 0

    def __call__(self, images: Tensor) -> Any:
        self._size = max(self._size, len(images))
        is_full = len(images) == self._size
        return self._model(images) if is_full else self._model.forward(images)


def choose_device(device: str, precision: Precision, *, compiled: bool = False) -> ComputeDevice:
    """Resolve `auto` for the device (CUDA if there is one) and the precision.

    On a CPU, PyTorch takes no more threads than this process may use from then on.

    Raises:
        ConfigError: if the device is unknown or not there.
    """
    if device == "auto":
        device = f"cuda:{local_device_index()}" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"there is no device {device!r}; use auto, cpu, cuda or cuda:N") from None
    if resolved.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r} is not supported; use auto, cpu, cuda or cuda:N")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {device!r} is not on this machine")
    # PyTorch knows nothing of quotas, and what the user has set (OMP_NUM_THREADS) may be less.
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    if precision is Precision.AUTO:
        precision = Precision.BF16 if _has_fast_bf16(resolved) else Precision.FP32
    return ComputeDevice(resolved, precision, compiled)


def _has_fast_bf16(device: torch.device) -> bool:
    # Without instructions of its own, bf16 on a CPU is some ten times slower than fp32.
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
