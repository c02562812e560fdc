"""One run in several processes: `torchrun` starts them, DistributedDataParallel joins them.

A single process is the plain case, in which nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """This process among all that share the run."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints and speaks to the user."""
        return self.rank == 0

    def join(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over all processes."""
        return module if self.count == 1 else DistributedDataParallel(module)

    def wait(self) -> None:
        """Until every process has come this far."""
        if self.count > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process, so that all of them stop at the same step."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a scalar over all processes."""
        if self.count == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value / self.count


def local_device_index() -> int:
    """Which of this machine's accelerators is this process's; 0 outside of `torchrun`."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes that `torchrun` started; alone outside of it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Processes()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def unsynchronised(module: nn.Module) -> AbstractContextManager[object]:
    """While entered, gradients add up in each process and are not exchanged."""
    if isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return nullcontext()
