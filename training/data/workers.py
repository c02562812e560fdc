"""Worker processes that apply a function to items, with the results in the items' order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(Generic[Item, Result]):
    """A function that worker processes apply to items, with results in the items' order.

    The processes start with the first result and stay. One call of `results` is under way at a
    time; an unfinished one may be left for the next.
    """

    def __init__(
        self, function: Callable[[Item], Result], workers: int, device: torch.device
    ) -> None:
        self._items = _Items[Item]()
        self._loader = DataLoader(
            _Calls(function),
            batch_size=None,
            sampler=self._items,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_unchanged,  # with no batch size it gets one item
            pin_memory=device.type == "cuda",
            worker_init_fn=_leave_signals_to_parent,
            generator=torch.Generator(),  # or else it would draw from the global one
        )

    def results(self, items: Iterable[Item]) -> Iterator[Result]:
        """What becomes of each item. Items are taken ahead, two for each worker."""
        self._items.items = items
        return iter(self._loader)


class _Items(Sampler[Item]):
    """The items of the call of `results` that is under way."""

    items: Iterable[Item] = ()

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


class _Calls(Dataset[Result], Generic[Item, Result]):
    """Lets a DataLoader call a function."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self._function = function

    def __getitem__(self, item: Item) -> Result:
        return self._function(item)


def _unchanged(result: Result) -> Result:
    return result


def _leave_signals_to_parent(_worker: int) -> None:
    """Ctrl-C reaches workers too; the run needs them until it has saved and lets them go.

    SIGTERM ends them at once, whatever handler they have inherited: it is how PyTorch, at its own
    end, gets rid of workers that are still at work, and it waits until they are gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
