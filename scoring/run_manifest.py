"""Which run an output folder holds, and whether that is the one that is asked for."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scoring import journal
from scoring.budget import solve_budget
from scoring.errors import OutputError
from scoring.inputs.opening import Inputs
from scoring.layout import LAYOUT, RUN_FILE
from scoring.request import ScoringRequest
from scoring.run_differences import require_same_files, require_same_settings
from scoring.writer import SCHEMA_VERSION
from serving.engine.graphs import Engine
from serving.images.formats import BY_DEFAULT
from serving.model.manifest import Manifest
from serving.model.routing import RoutingRule
from serving.model.shot_groups import GROUPS, shot_groups


@dataclass(frozen=True)
class Wording:
    """How the inputs of a run were named when it began, from which their ids are made.

    Attributes:
        folder: where the command ran.
        arguments: what was typed.
        listing: as of `Inputs`, which the same words give again.
    """

    folder: str
    arguments: tuple[str, ...]
    listing: str


@dataclass(frozen=True)
class ScoringRun:
    """The run that a folder holds and that goes on.

    Attributes:
        rule: how far images go.
        part_rows: rows of a part.
        about: what every part says of the run, in plain JSON types.
        wording: how its inputs were named.
    """

    rule: RoutingRule
    part_rows: int
    about: Mapping[str, Any]
    wording: Wording


def begin_or_resume(
    request: ScoringRequest,
    engine: Engine,
    inputs: Inputs,
    part_rows: int,
    watch: Callable[[], bool],
) -> ScoringRun:
    """Begin a run in the output folder, or find there the very run that is asked for.

    Args:
        request: what is asked for.
        engine: the model.
        inputs: what is scored.
        part_rows: rows of a part.
        watch: as of `Pipeline.run`, while thresholds are searched for.

    Raises:
        OutputError: if the folder holds anything else and it may not be written over.
        ScoringError: as `solve_budget` does.
    """
    asked = _asked(request, engine, inputs, part_rows)
    found = journal.read_run(request.output)
    if found is not None and request.overwrite:
        journal.clear(request.output)
        found = None
    if found is None:
        found = _begin(request, engine, inputs, asked, watch)
    else:
        require_same_settings(request.output, found, asked)
        begun = journal.read_inputs(request.output)
        require_same_files(request.output, begun, inputs.files, resume=request.resume)
    about = {key: found.get(key) for key in ("schema_version", "ride_version", "model", "rule")}
    try:
        rule = found["rule"]
        kept = replace(
            engine.rule(),
            thresholds=tuple(map(float, rule["thresholds"])),
            max_experts=int(rule["max_experts"]),
        )
        named = found["inputs"]
        wording = Wording(str(named["folder"]), tuple(named["arguments"]), str(named["listing"]))
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{request.output / RUN_FILE} holds no run") from error
    return ScoringRun(kept, part_rows, about, wording)


def _begin(
    request: ScoringRequest,
    engine: Engine,
    inputs: Inputs,
    asked: Mapping[str, Any],
    watch: Callable[[], bool],
) -> dict[str, Any]:
    run, rule, budget = dict(asked), request.routing.rule(engine), request.routing.budget
    if budget is not None:
        solved = solve_budget(engine, inputs.shards, budget, request, watch)
        rule = replace(rule, thresholds=solved.thresholds)
        run["budget"] = {"mean_experts": solved.mean_experts, "images": solved.images}
    run["rule"] = {"thresholds": list(rule.thresholds), "max_experts": rule.max_experts}
    journal.write_inputs(request.output, inputs.files)
    journal.write_run(request.output, run)
    return run


def _asked(
    request: ScoringRequest, engine: Engine, inputs: Inputs, part_rows: int
) -> dict[str, Any]:
    """What the run is: all that its rows depend on, and when it began."""
    request.routing.rule(engine)  # raises before anything is written
    return {
        "schema_version": SCHEMA_VERSION,
        "layout": LAYOUT,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "ride_version": version("ride-server"),
        "model": model_identity(engine),
        "shot_groups": _shot_groups(engine.manifest),
        "routing": vars(request.routing),
        "settings": {
            **vars(request.kept),
            "part_rows": part_rows,
            "column": request.column,
            "labels": request.labels,
            **_formats(request),
        },
        "inputs": {
            "folder": str(Path.cwd()),
            "arguments": list(request.inputs),
            "images": inputs.images,
            "lists": [each.about() for each in inputs.lists],
            "listing": inputs.listing,
        },
    }


def _formats(request: ScoringRequest) -> dict[str, Any]:
    """Nothing for the usual ones, so that runs go on that began before others could be chosen."""
    keys = sorted(request.accepted.formats)
    return {} if keys == sorted(BY_DEFAULT) else {"formats": keys}


def model_identity(engine: Engine) -> dict[str, Any]:
    """What a model is known again by."""
    return {
        "version": engine.version,
        "precision": engine.manifest.precision,
        "graphs": sorted(engine.manifest.graphs.values()),
    }


def _shot_groups(manifest: Manifest) -> dict[str, list[str]]:
    """The names of each group's classes, for `ride compare`, which sees no model."""
    places = zip(manifest.class_names, shot_groups(manifest.class_counts), strict=True)
    groups: dict[str, list[str]] = {name: [] for name in GROUPS}
    for name, place in places:
        groups[GROUPS[place]].append(name)
    return groups
