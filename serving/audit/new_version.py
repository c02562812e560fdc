"""The next version of a model: the same graphs, other thresholds."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from serving.audit.proposals import Proposal
from serving.errors import AuditError
from serving.model.manifest import MODEL_NAME, Manifest
from serving.model.repository import FILE_NAME, graph_models, graph_path, versions

_COMPILED = shutil.ignore_patterns("__pycache__")


def write_version(repository: Path, version: int, manifest: Manifest, proposal: Proposal) -> int:
    """Copy a version as the next one, with the proposal's thresholds; returns its number.

    Everything is copied beside its place and renamed, the folder with the manifest last: a version
    without a manifest is not there for anybody.

    Raises:
        AuditError: if the repository can't be written.
    """
    number = versions(repository)[-1] + 1
    moved: list[Path] = []
    try:
        with tempfile.TemporaryDirectory(prefix=".ride-", dir=repository) as staged:
            # Those that Triton needs beside the graphs have a folder for the version as well.
            models = [folder.parent.name for folder in repository.glob(f"[!.]*/{version}")]
            for model in models:
                source = repository / model / str(version)
                shutil.copytree(source, Path(staged) / model, ignore=_COMPILED)
            text = _calibrated(manifest, version, number, proposal).to_json()
            (Path(staged) / MODEL_NAME / FILE_NAME).write_text(text, encoding="utf-8")
            for model in sorted(models, key=MODEL_NAME.__eq__):
                place = repository / model / str(number)
                (Path(staged) / model).rename(place)
                moved.append(place)
    except OSError as error:
        for place in moved:
            shutil.rmtree(place, ignore_errors=True)
        raise AuditError(f"can't add a version to {repository}: {error.strerror}") from None
    return number


def _calibrated(manifest: Manifest, version: int, number: int, proposal: Proposal) -> Manifest:
    graphs = {
        graph_path(model, number): manifest.graphs[graph_path(model, version)]
        for model in graph_models(manifest.num_experts)
    }
    provenance = {
        **manifest.provenance,
        "calibration_from_audit": {
            "version": version,
            "chosen_for": proposal.name,
            "agreement": proposal.agreement.share,
            "images": proposal.agreement.of,
        },
    }
    return replace(
        manifest,
        thresholds=proposal.thresholds,
        graphs=graphs,
        stops=proposal.stops,
        provenance=provenance,
    )
