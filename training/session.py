"""What `ride train` and `ride evaluate` do, apart from reading their flags."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from training.checkpoint import (
    FILE_NAME,
    Checkpoint,
    Stage,
    checkpoint_digest,
    load_checkpoint,
    load_finished,
)
from training.config import Precision, TrainingConfig
from training.data import long_tailed_subset, read_split
from training.device import Machine, choose_machine
from training.errors import CheckpointError, ConfigError
from training.evaluation import (
    Evaluation,
    Result,
    evaluate,
    save_evaluation,
    save_predictions,
)
from training.interrupt import InterruptFlag
from training.loop import TrainingRun, new_checkpoint
from training.progress import ConsoleReporter
from training.provenance import provenance


def train_session(
    config: TrainingConfig,
    *,
    data: Path,
    output: Path,
    resume: bool,
    device: str,
    checkpoint_every_s: float,
    console: Console,
) -> bool:
    """Start or resume the run in `output`. Returns whether it reached its end.

    Raises:
        TrainingError: for flags, data or a checkpoint that a user can mend.
    """
    checkpoint = _resumed(output) if resume else None
    if checkpoint is None:
        _require_new(output)
    elif checkpoint.position.stage is Stage.DONE:
        _say(console, f"{output} is already finished.")
        return True
    else:
        config = checkpoint.config
    machine = choose_machine(device, config.precision)
    full = read_split(data, config.data.dataset, "train")
    training_set = long_tailed_subset(full, config.data)
    if checkpoint is None:
        checkpoint = new_checkpoint(config, training_set, provenance(config, machine))
        _create(output)
    _say(console, _headline(checkpoint, len(training_set), machine))
    with InterruptFlag() as interrupt, ConsoleReporter(output, console) as reporter:
        run = TrainingRun(
            checkpoint,
            training_set,
            output,
            machine,
            checkpoint_every_s=checkpoint_every_s,
            reporter=reporter,
            interrupt=interrupt,
        )
        finished = run.run()
    if finished:
        _say(console, f"Finished. Next: ride evaluate {output} --data {data}")
    else:
        _say(console, f"Stopped. Go on with: ride train --resume --output {output} --data {data}")
    return finished


def evaluate_session(
    run: Path,
    *,
    data: Path,
    device: str,
    as_json: bool,
    predictions: Path | None,
    save: bool,
    console: Console,
) -> None:
    """Measure the finished run, show the result, and `save` it in the run's folder.

    Raises:
        TrainingError: for flags, data or a checkpoint that a user can mend.
    """
    checkpoint = load_finished(run)
    machine = choose_machine(device, Precision.FP32)
    split = read_split(data, checkpoint.config.data.dataset, "test")
    batches = zip(split.images.split(500), split.labels.split(500), strict=True)
    evaluation, answers, labels = evaluate(checkpoint, batches, machine.device)
    if save and run.is_dir():
        save_evaluation(evaluation, checkpoint_digest(run), run)
    if predictions is not None:
        save_predictions(answers, labels, predictions)
    if as_json:
        print(json.dumps(evaluation.to_dict(), indent=2))
    else:
        console.print(_evaluation_table(evaluation))


def _evaluation_table(evaluation: Evaluation) -> Table:
    title = f"{evaluation.dataset}, {evaluation.split} split, {evaluation.images:,} images"
    table = Table(title=title)
    table.add_column("")
    for column in ("routed", "all experts"):
        table.add_column(column, justify="right")
    columns = [_evaluation_rows(evaluation.routed), _evaluation_rows(evaluation.all_experts)]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table


def _evaluation_rows(result: Result) -> dict[str, str]:
    accuracy = result.accuracy
    rows = {
        "top-1, %": _percent(accuracy.overall),
        "many-shot classes, %": _percent(accuracy.many),
        "medium-shot classes, %": _percent(accuracy.medium),
        "few-shot classes, %": _percent(accuracy.few),
        "mean experts": f"{result.mean_experts:.2f}",
        "mean multiply-adds, M": f"{result.mean_multiply_adds / 1e6:.1f}",
    }
    for i, share in enumerate(result.stopped_after):
        rows[f"stop after {i + 1}, %"] = _percent(share)
    return rows


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f}"


def _say(console: Console, text: str) -> None:
    """Print it as it is: a path may hold brackets, and a command is copied in one piece."""
    console.print(text, markup=False, soft_wrap=True)


def _resumed(output: Path) -> Checkpoint:
    if not (output / FILE_NAME).is_file():
        raise CheckpointError(f"there is nothing to resume in {output}: it has no {FILE_NAME}")
    return load_checkpoint(output)


def _require_new(output: Path) -> None:
    if (output / FILE_NAME).exists():
        raise ConfigError(
            f"{output} already holds a run: go on with it (--resume) or name another folder"
        )


def _create(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder {output} cannot be made: {error.strerror}") from error


def _headline(checkpoint: Checkpoint, images: int, machine: Machine) -> str:
    config = checkpoint.config
    return (
        f"{config.preset}: {config.model.num_experts} experts, {images:,} images, "
        f"{config.optimiser.epochs} epochs, seed {config.seed}, on {machine.name}, "
        f"{machine.precision}; starting at {checkpoint.position}"
    )
