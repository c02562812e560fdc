"""What `ride train` does, apart from reading its flags."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from serving.interrupt import InterruptFlag
from serving.tracing.terminal import say
from training.backbones.pretrained import load_pretrained, read_weights
from training.backbones.registry import require_cut
from training.checkpoint import (
    FILE_NAME,
    Checkpoint,
    Stage,
    checkpoint_digest,
    load_checkpoint,
    load_finished,
)
from training.config import TrainingConfig
from training.data import LabelledImages, Split, read_split
from training.data.class_names import require_order
from training.data.loading import make_loader
from training.device import ComputeDevice, choose_device
from training.errors import CheckpointError, ConfigError
from training.loop import Reporter, TrainingRun, fresh_model, new_checkpoint
from training.processes import Processes, joined_processes
from training.progress import ConsoleReporter, SilentReporter
from training.provenance import file_digest, provenance
from training.requests import Runtime


def train_session(
    config: TrainingConfig,
    runtime: Runtime,
    *,
    data: Path,
    output: Path,
    resume: bool,
    console: Console,
) -> bool:
    """Start or resume the run in `output`. Returns whether it reached its end.

    Raises:
        TrainingError: for flags, data or a checkpoint that a user can mend.
    """
    with joined_processes() as processes, InterruptFlag() as interrupt:
        checkpoint = _resumed(output, resume=resume)
        if checkpoint is not None and checkpoint.position.stage is Stage.DONE:
            say(console, f"{output} is already finished.")
            return True
        config = config if checkpoint is None else checkpoint.config
        compute = choose_device(runtime.device, config.precision, compiled=runtime.compiled)
        require_cut(config.model)
        teacher, config = _teacher(runtime.teacher, config)
        known = () if checkpoint is None else checkpoint.class_names
        images = read_split(data, config.data, Split.TRAIN, known)
        checkpoint = checkpoint or _started(config, images, compute, runtime.weights, console)
        if teacher is not None:
            _require_same_classes(teacher, images)
        loader = make_loader(
            images,
            config.augmentation,
            config.data,
            compute.device,
            workers=runtime.workers,
            two_views=config.loss.two_views,
            on_unreadable=runtime.on_unreadable,
        )
        processes.wait()  # every process has looked for a run in the folder before one is made
        if processes.is_main:
            _create(output)
            say(console, _headline(checkpoint, len(images), compute, processes))
            say(console, f"Images: {images.description}")
        with _reporter(output, console, processes) as reporter:
            finished = TrainingRun(
                checkpoint,
                images,
                loader,
                output,
                compute,
                checkpoint_every_s=60 * runtime.checkpoint_minutes,
                reporter=reporter,
                interrupt=interrupt,
                teacher=None if teacher is None else teacher.build_model(),
                processes=processes,
            ).run()
        if processes.is_main:
            _say_what_next(console, output, data, finished, [*loader.unreadable.values()])
    return finished


def _started(
    config: TrainingConfig,
    images: LabelledImages,
    compute: ComputeDevice,
    weights: Path | None,
    console: Console,
) -> Checkpoint:
    """The first checkpoint of a new run."""
    config = _for_classes(config, len(images.class_names))
    model, origin = fresh_model(config), provenance(config, compute)
    if weights is not None:
        report = load_pretrained(model, read_weights(weights))
        origin["weights_sha256"] = file_digest(weights)
        say(
            console,
            f"{weights}: {report.taken} tensors taken, {report.thinned} thinned to narrower "
            f"experts, {report.left} left at their initialisation",
        )
    return new_checkpoint(config, images, origin, model)


def _for_classes(config: TrainingConfig, classes: int) -> TrainingConfig:
    """The classes are the data's; routers can't look at more logits than there are."""
    top = min(config.model.router_top_logits, classes)
    return replace(config, model=replace(config.model, num_classes=classes, router_top_logits=top))


def _teacher(run: Path | None, config: TrainingConfig) -> tuple[Checkpoint | None, TrainingConfig]:
    """The teacher's checkpoint; a resumed run insists on the teacher that it was started with."""
    wanted = config.loss.teacher_sha256
    if run is None:
        if wanted or config.loss.distillation_weight:
            raise ConfigError("distillation needs a finished run to imitate: name it by --teacher")
        return None, config
    if not config.loss.distillation_weight:
        raise ConfigError("--teacher has no effect while loss.distillation_weight is 0")
    teacher = load_finished(run)
    digest = checkpoint_digest(run)
    if wanted not in (None, digest):
        raise ConfigError(f"{run} is not the teacher that this run was started with")
    return teacher, replace(config, loss=replace(config.loss, teacher_sha256=digest))


def _require_same_classes(teacher: Checkpoint, images: LabelledImages) -> None:
    """Told once the data, which the classes are of, is known."""
    known, classes = len(teacher.class_names), len(images.class_names)
    if known != classes:
        raise ConfigError(f"the teacher knows {known} classes, and the data has {classes}")
    require_order(images.class_names, teacher.class_names, "the data", ", the teacher")


def _reporter(
    output: Path, console: Console, processes: Processes
) -> AbstractContextManager[Reporter]:
    return ConsoleReporter(output, console) if processes.is_main else nullcontext(SilentReporter())


def _say_what_next(
    console: Console, output: Path, data: Path, finished: bool, skipped: list[str]
) -> None:
    if skipped:
        several = f"{len(skipped)} images could not be read, the first of them: "
        say(console, (several if len(skipped) > 1 else "1 image could not be read: ") + skipped[0])
    if finished:
        say(console, f"Finished. Next: ride evaluate {output} --data {data}")
    else:
        again = f"ride train --resume --output {output} --data {data}"
        say(console, f"Stopped. Go on with: {again}")


def _resumed(output: Path, *, resume: bool) -> Checkpoint | None:
    """The checkpoint to go on from; None for a new run, whose folder must not hold one."""
    path = output / FILE_NAME
    if resume:
        if not path.is_file():
            raise CheckpointError(f"there is nothing to resume in {output}: it has no {FILE_NAME}")
        return load_checkpoint(output)
    if path.exists():
        raise ConfigError(
            f"{output} already holds a run: go on with it (--resume) or name another folder"
        )
    return None


def _create(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder {output} cannot be made: {error.strerror}") from error


def _headline(
    checkpoint: Checkpoint, images: int, compute: ComputeDevice, processes: Processes
) -> str:
    config = checkpoint.config
    several = f" in {processes.count} processes" if processes.count > 1 else ""
    return (
        f"{config.preset}: {config.model.num_experts} experts, {images:,} images, "
        f"{config.optimiser.epochs} epochs, seed {config.seed}, on {compute.name}, "
        f"{compute.precision}{several}; starting at {checkpoint.position}"
    )
