"""Why a run can't go on as what is asked for: which setting differs, or which input file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scoring.errors import OutputError
from scoring.inputs.identity import InputFiles
from scoring.layout import parts_folder

_OR_ELSE = "name another folder, or write over it by --overwrite"


def require_same_settings(folder: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise OutputError unless the folder's run is of the same model, thresholds and columns."""
    if parts_folder(folder, found) == folder:
        raise OutputError(
            f"{folder} holds a run that an earlier version of ride began, which can't go on: "
            f"ride compare reads it if it is finished; {_OR_ELSE}"
        )
    if found.get("schema_version") != asked["schema_version"]:
        raise OutputError(f"{folder} holds a run in other columns of another ride: {_OR_ELSE}")
    if found.get("model") != asked["model"]:
        raise OutputError(
            f"{folder} holds a run with another model ({_other_model(found, asked)}): {_OR_ELSE}"
        )
    if others := dict(_other_settings(found, asked)):
        if len(others) > 1:
            others.pop("--part-rows", None)  # it follows from what is kept of a row
        listed = "; ".join(f"{flag} {how}" for flag, how in others.items())
        raise OutputError(f"{folder} holds a run with other settings ({listed}): {_OR_ELSE}")


def require_same_files(folder: Path, begun: InputFiles, now: InputFiles, *, resume: bool) -> None:
    """Raise OutputError unless the files that a run was begun with are those of now.

    With `resume` they may have been written anew.
    """
    if others := begun.others_in(now):
        raise OutputError(f"{folder} holds a run over other inputs ({others}): {_OR_ELSE}")
    if not resume and (rewritten := begun.rewritten_in(now)):
        raise OutputError(
            f"inputs of the run in {folder} were written anew since it began: {rewritten}; "
            "--resume goes on if they hold the same images, --overwrite begins again"
        )


def _other_settings(
    found: Mapping[str, Any], asked: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Each flag with another value, and how it differs."""
    for kind in ("routing", "settings"):
        there, here = found.get(kind), asked[kind]
        there = there if isinstance(there, dict) else dict.fromkeys(here, "unknown")
        for name in {**here, **there}:
            its, value = there.get(name), here.get(name)
            if its != value:
                yield f"--{name.replace('_', '-')}", f"was {_typed(its)}, now {_typed(value)}"


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return "given" if value else "not given"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "not given" if value is None else str(value)


def _other_model(found: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    there, here = found.get("model"), asked["model"]
    for name in ("version", "precision"):
        its = there.get(name) if isinstance(there, dict) else "unknown"
        if its != here[name]:
            return f"{name} was {its}, now {here[name]}"
    return f"version {here['version']} has other graphs now"
