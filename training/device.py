"""Where the model runs, and in which number format."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from training.config import Precision
from training.errors import ConfigError
from training.processes import local_device_index


@dataclass(frozen=True)
class Machine:
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

    @property
    def name(self) -> str:
        """The accelerator's or processor's name, for provenance."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def choose_machine(device: str, precision: Precision, *, compiled: bool = False) -> Machine:
    """Resolve `auto` for the device (CUDA if there is one) and the precision.

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
    if precision is Precision.AUTO:
        precision = Precision.BF16 if _has_fast_bf16(resolved) else Precision.FP32
    return Machine(resolved, precision, compiled)


def _has_fast_bf16(device: torch.device) -> bool:
    # Without instructions of its own, bf16 on a CPU is some ten times slower than fp32.
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
