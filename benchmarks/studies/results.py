"""The study `results`: the rows of docs/results.md, trained and measured."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.errors import BenchmarkError
from benchmarks.markdown import table
from serving.files import replacing
from training.checkpoint import FILE_NAME, load_finished
from training.errors import CheckpointError

_PLAIN = ("--preset", "cifar100-lt", "--experts", "1", "--diversity", "none")
_FULL_WIDTH = ("--set", "model.reduced_width=false")
_PLAIN_COST = ("--mean-experts", "1.76")  # what one plain ResNet-32 costs, 69.5 M multiply-adds
_COLUMNS = (
    "row",
    "routed: top-1 (many / medium / few)",
    "all experts",
    "mean experts",
    "M multiply-adds",
    "published",
    "seed",
    "commit",
    "date",
    "machine",
)
_NEVER_REWEIGHTED = ("--set", "loss.reweighting_epoch=null")


@dataclass(frozen=True)
class Row:
    """One line of the table: flags of `ride train` and `ride route`, and the published figure.

    `teacher` names the row that this one imitates, which must come before it.
    """

    name: str
    flags: tuple[str, ...]
    published: str = ""
    route: tuple[str, ...] = ()
    teacher: str | None = None

    def command(self, data: str, runs: str) -> list[str]:
        """The training command, as it is typed; `runs` is the folder of all runs."""
        imitated = ("--teacher", f"{runs}/{self.teacher}") if self.teacher else ()
        run = f"{runs}/{self.name}"
        return ["ride", "train", *self.flags, *imitated, "--data", data, "--output", run]


def _shipped(name: str, *flags: str) -> list[Row]:
    """The shipped recipe with three seeds."""
    start = ("--preset", "cifar100-lt-strong", *flags)
    return [
        Row(f"{name}-seed-{seed}", (*start, "--seed", str(seed)), route=_PLAIN_COST)
        for seed in range(3)
    ]


ROWS = (
    Row(
        "cross-entropy",
        (*_PLAIN, "--base-loss", "cross-entropy", *_FULL_WIDTH, *_NEVER_REWEIGHTED),
        "39.1 (66.1 / 37.3 / 10.6)",
    ),
    Row("ldam-drw", (*_PLAIN, *_FULL_WIDTH)),
    Row("ride-2", ("--preset", "cifar100-lt", "--experts", "2")),
    Row("ride-3", ("--preset", "cifar100-lt"), "48.6 (67.0 / 49.9 / 25.7)"),
    Row("ride-4", ("--preset", "cifar100-lt", "--experts", "4")),
    *_shipped("strong"),
    Row("teacher", ("--preset", "cifar100-lt-teacher")),
    Row(
        "distilled",
        ("--preset", "cifar100-lt-distilled"),
        route=(*_PLAIN_COST, "--prior-adjustment", "auto"),
        teacher="teacher",
    ),
    *_shipped("strong-if-50", "--imbalance-factor", "50"),
    *_shipped("strong-if-10", "--imbalance-factor", "10"),
    Row("short", ("--preset", "cifar100-lt-short"), route=_PLAIN_COST),
    Row(
        "short-cross-entropy",
        (
            *("--preset", "cifar100-lt-short", "--experts", "1", "--base-loss", "cross-entropy"),
            *_FULL_WIDTH,
        ),
    ),
)


def results(
    data: Annotated[Path, typer.Option(help="Folder with CIFAR-100.")] = Path("DATA"),
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    row: Annotated[
        list[str] | None,
        typer.Option(help="Only this row; may be given more than once. --list names them."),
    ] = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="Print the rows' commands and stop.")
    ] = False,
) -> Iterator[str]:
    """Train and measure the rows of docs/results.md, as anyone would by hand.

    Each row is a run of ride train, ride route where thresholds are chosen for a budget, and ride
    evaluate, in a folder of its own. Rows that are finished are not trained again and rows that
    were stopped go on where they were, so the command can be stopped and repeated until the table
    is whole. The table goes to RUNS/results.md.

    Example: python -m benchmarks results --data DATA --runs runs --row ride-3
    """
    if unknown := set(row or ()).difference(each.name for each in ROWS):
        raise BenchmarkError(f"there is no row {', '.join(sorted(unknown))}")
    chosen = [each for each in ROWS if not row or each.name in row]
    if only_list:
        for each in chosen:
            yield f"{each.name}: {shlex.join(each.command('DATA', 'runs'))}"
        return
    runs.mkdir(parents=True, exist_ok=True)
    for each in chosen:
        run = str(runs / each.name)
        _train(each, data, runs)
        if each.route:
            _ride("route", run, "--data", str(data), *each.route)
        _ride("evaluate", run, "--data", str(data))
        with replacing(runs / "results.md") as file:
            file.write(results_table(runs).encode())
        yield f"wrote {runs / 'results.md'}"


def _train(row: Row, data: Path, runs: Path) -> None:
    run = runs / row.name
    if (run / FILE_NAME).is_file():
        teacher = ("--teacher", str(runs / row.teacher)) if row.teacher else ()
        _ride("train", "--resume", *teacher, "--data", str(data), "--output", str(run))
    else:
        _ride(*row.command(str(data), str(runs))[1:])


def _ride(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "ride", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def results_table(runs: Path) -> str:
    """The table of every finished and measured row, in the order of ROWS."""
    lines = (_table_line(row, runs / row.name) for row in ROWS)
    return table(_COLUMNS, [line for line in lines if line is not None])


def _table_line(row: Row, run: Path) -> list[str] | None:
    try:
        checkpoint = load_finished(run)
        measured = json.loads((run / "evaluation.json").read_bytes())
    except (CheckpointError, OSError):
        return None
    origin, routed = checkpoint.provenance, measured["routed"]
    return [
        row.name,
        _accuracy(routed["accuracy"]),
        _accuracy(measured["all_experts"]["accuracy"]),
        f"{routed['mean_experts']:.2f}",
        f"{routed['mean_multiply_adds'] / 1e6:.1f}",
        row.published,
        str(checkpoint.config.seed),
        *(str(origin[key]) for key in ("commit", "started", "machine")),
    ]


def _accuracy(shares: dict[str, Any]) -> str:
    groups = (shares[name] for name in ("many", "medium", "few"))
    each = " / ".join("none" if share is None else f"{100 * share:.1f}" for share in groups)
    return f"{100 * shares['overall']:.1f} ({each})"
