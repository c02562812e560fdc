"""What `ride train` does, apart from reading its flags."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from training.checkpoint import FILE_NAME, Checkpoint, Stage, load_checkpoint
from training.config import Precision, TrainingConfig
from training.data import long_tailed_subset, read_split
from training.device import Machine, choose_machine
from training.errors import CheckpointError, ConfigError
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
    precision: Precision,
    checkpoint_every_s: float,
    console: Console,
) -> bool:
    """Start or resume the run in `output`. Returns whether it reached its end.

    Raises:
        TrainingError: for flags, data or a checkpoint that a user can mend.
    """
    machine = choose_machine(device, precision)
    checkpoint = _resumed(output) if resume else None
    if checkpoint is None:
        _require_new(output)
    elif checkpoint.position.stage is Stage.DONE:
        console.print(f"{output} is already finished.")
        return True
    else:
        config = checkpoint.config
    full = read_split(data, config.data.dataset, "train")
    training_set = long_tailed_subset(full, config.data)
    if checkpoint is None:
        checkpoint = new_checkpoint(config, training_set, provenance(config, machine))
        output.mkdir(parents=True, exist_ok=True)
    console.print(_headline(checkpoint, len(training_set), machine))
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
        console.print(f"Finished. Next: ride evaluate {output} --data {data}")
    else:
        console.print(f"Stopped. Go on with: ride train --resume --output {output} --data {data}")
    return finished


def _resumed(output: Path) -> Checkpoint:
    if not (output / FILE_NAME).is_file():
        raise CheckpointError(f"there is nothing to resume in {output}: it has no {FILE_NAME}")
    return load_checkpoint(output)


def _require_new(output: Path) -> None:
    if (output / FILE_NAME).exists():
        raise ConfigError(
            f"{output} already holds a run: go on with it (--resume) or name another folder"
        )


def _headline(checkpoint: Checkpoint, images: int, machine: Machine) -> str:
    config = checkpoint.config
    return (
        f"{config.preset}: {config.model.num_experts} experts, {images:,} images, "
        f"{config.optimiser.epochs} epochs, seed {config.seed}, on {machine.name}, "
        f"{machine.precision}; starting at {checkpoint.position}"
    )
