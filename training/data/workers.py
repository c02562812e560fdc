"""Worker processes that apply a function to items, with the results in the items' order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from serving.interrupt import STOPS
from training.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")


_LOST = "DataLoader worker"
"""How PyTorch's messages about a lost worker begin."""


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
            worker_init_fn=_leave_signals_to_the_run,
            generator=torch.Generator(),  # or else it would draw from the global one
        )

    def results(self, items: Iterable[Item]) -> Iterator[Result]:
        """What becomes of each item. Items are taken ahead, two for each worker."""
        self._items.items = items
        with _signals_held():
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


@contextmanager
def losses_told() -> Iterator[None]:
    """Say in a sentence that a worker was killed, which PyTorch tells in several ways, at any time.

    Raises:
        DataError: for each of them.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(_LOST):
            raise
        raise DataError(
            "a process that decodes images has ended, as the system ends some where memory is "
            "short: try fewer --workers. What was saved is kept"
        ) from error


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait, also those of a process that starts meanwhile, until it lets them come."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_the_run(_worker: int) -> None:
    """Signals to all processes reach workers too: the run needs them until it has saved.

    The second SIGTERM ends one at once: it is how PyTorch and Python, at their own end, get rid of
    workers that are still at work, and they wait until those are gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_at_the_next)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def _end_at_the_next(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
