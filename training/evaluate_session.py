"""What `ride evaluate` does, apart from reading its flags."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from serving.files import require_writable
from training.checkpoint import checkpoint_digest, load_finished
from training.choices import Precision
from training.data import Split, read_split
from training.data.loading import plain_batches
from training.device import choose_device
from training.evaluate_report import BATCH_SIZE, ReportRequest, plan_report, report_on
from training.evaluation import (
    Evaluation,
    Result,
    evaluate_checkpoint,
    save_evaluation,
    save_predictions,
)


def evaluate_session(
    run: Path,
    *,
    data: Path,
    device: str,
    as_json: bool,
    predictions: Path | None,
    report: ReportRequest | None,
    workers: int,
    save: bool,
    console: Console,
) -> None:
    """Measure the finished run, show the result, and `save` it in the run's folder.

    Raises:
        TrainingError: for flags, data or a checkpoint that a user can mend.
        OSError: if `predictions` can't be written.
    """
    if predictions is not None:
        require_writable(predictions)
    checkpoint = load_finished(run)
    plan = None if report is None else plan_report(run, report)
    compute = choose_device(device, Precision.FP32)
    images = read_split(data, checkpoint.config.data, Split.TEST, checkpoint.class_names)
    batches = plain_batches(
        images, checkpoint.config.data, compute.device, BATCH_SIZE, workers=workers
    )
    total = math.ceil(len(images) / BATCH_SIZE)
    shown = track(batches, "evaluating", total, disable=as_json, transient=True)
    evaluation, answers, labels = evaluate_checkpoint(checkpoint, shown, compute.device)
    if save and run.is_dir():
        save_evaluation(evaluation, checkpoint_digest(run), run)
    if predictions is not None:
        save_predictions(answers, labels, predictions)
    if as_json:
        print(json.dumps(evaluation.to_dict(), indent=2))
    else:
        console.print(_evaluation_table(evaluation))
    if plan is not None:
        report_on(plan, data=data, device=compute.device, workers=workers, console=console)


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
