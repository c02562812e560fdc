"""The next version of a model: the same graphs, other thresholds."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from serving.audit.proposals import Proposal
from serving.errors import AuditError
from serving.model.manifest import Manifest
from serving.model.publishing import next_number, publish_version, write_manifest
from serving.model.repository import graph_models, graph_path

_COMPILED = shutil.ignore_patterns("__pycache__")


def write_version(repository: Path, version: int, manifest: Manifest, proposal: Proposal) -> int:
    """Copy a version as the next one, with the proposal's thresholds; returns its number.

    Raises:
        AuditError: if the repository can't be written.
    """
    number = next_number(repository)
    try:
        with tempfile.TemporaryDirectory(prefix=".ride-", dir=repository) as folder:
            staged = Path(folder)
            # Those that Triton needs beside the graphs have a folder for the version as well.
            for source in repository.glob(f"[!.]*/{version}"):
                place = staged / source.parent.name / str(number)
                shutil.copytree(source, place, ignore=_COMPILED)
            write_manifest(staged, number, _calibrated(manifest, version, number, proposal))
            publish_version(staged, repository, number)
    except OSError as error:
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
