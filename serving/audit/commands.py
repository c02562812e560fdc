"""`ride calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table

from serving.audit.proposals import Proposal
from serving.errors import AuditError
from serving.options import MOST_USED, option, with_options
from serving.tracing.terminal import say


@with_options()
def calibrate(
    from_audit: Annotated[
        str,
        option(
            "A server's address, or a file of what its /v1/audit?samples=true answered.",
            MOST_USED,
            metavar="URL|FILE",
        ),
    ],
    repository: Annotated[
        Path, option("Model repository that the server serves.", MOST_USED)
    ] = Path("model_repository"),
    agreement: Annotated[
        float | None,
        option("Share of images, from 0 to 1, that must agree with all experts.", MOST_USED),
    ] = None,
    mean_experts: Annotated[
        float | None, option("Most experts that an image may take on average.", MOST_USED)
    ] = None,
    write: Annotated[
        bool, option("Add the proposal to the repository as a new version.", MOST_USED)
    ] = False,
) -> None:
    """Propose thresholds from what a server's audit has recorded.

    Without --agreement or --mean-experts, several are shown. The figures are of images on which
    the thresholds were not chosen.

    Example: ride calibrate --from-audit http://localhost:8000 --agreement 0.99
    """
    from serving.audit.new_version import write_version
    from serving.audit.proposals import Proposals
    from serving.audit.samples import read_samples
    from serving.model.manifest_json import load_manifest

    if agreement is not None and mean_experts is not None:
        raise AuditError("--agreement and --mean-experts both choose thresholds: give one of them")
    if write and agreement is None and mean_experts is None:
        raise AuditError("--write needs --agreement or --mean-experts: which thresholds?")
    samples = read_samples(from_audit)
    manifest = load_manifest(repository, samples.version)
    if samples.thresholds != manifest.thresholds:
        raise AuditError(
            f"version {samples.version} in {repository} has other thresholds than the audit's"
        )
    proposals = Proposals(samples, manifest.multiply_adds)
    if agreement is not None:
        chosen = [proposals.reaching(agreement)]
    elif mean_experts is not None:
        chosen = [proposals.within(mean_experts)]
    else:
        chosen = list(proposals.usual())
    Console().print(_table([proposals.in_force(), *chosen], manifest.multiply_adds.all_experts))
    if write:
        number = write_version(repository, samples.version, manifest, chosen[0])
        what = f"Wrote version {number} of {repository}"
        say(Console(), f"{what}; servers that follow it take it up.")


def _table(proposals: Sequence[Proposal], all_experts: int) -> Table:
    table = Table("chosen for", "thresholds", "mean experts", "compute", "agreement (95 %)")
    for proposal in proposals:
        found = proposal.agreement
        share = "" if found.share is None else f"{found.share:.2%} "
        table.add_row(
            proposal.name,
            ", ".join(f"{threshold:.4f}" for threshold in proposal.thresholds),
            f"{proposal.mean_experts:.3f}",
            f"{proposal.mean_multiply_adds / all_experts:.1%}",
            f"{share}({found.low:.2%} to {found.high:.2%})",
        )
    return table
