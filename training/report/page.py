"""The report as a folder: `index.html`, one page that needs nothing else, and `report.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from serving.files import replacing
from serving.model.shot_groups import FEW_BELOW, MANY_ABOVE
from training.errors import ConfigError
from training.report import formats, plots
from training.report.contents import ReportContents
from training.report.findings import Findings, find

PAGE = "index.html"
NUMBERS = "report.json"
MARK = '<meta name="generator" content="ride evaluate">'
_MARK_WITHIN = 500  # characters of the page
_PLOTS: dict[str, Callable[[Findings], plots.Drawing]] = {
    "accuracy": plots.accuracy_by_group,
    "compute": plots.accuracy_against_compute,
    "experts_by_group": plots.experts_by_group,
    "experts_by_class": plots.experts_by_class,
    "classes": plots.accuracy_by_class,
    "calibration": plots.reliability,
    "spread": plots.bias_and_variance,
}


def write_report(contents: ReportContents, directory: Path) -> Path:
    """Write the report into `directory`, in place of an earlier one, and return the page's path.

    Both files are written beside their places and moved there once both are complete.

    Raises:
        ConfigError: `directory` is a file, or holds something else than an earlier report.
    """
    refuse_foreign(directory)
    findings = find(contents)
    page, numbers = render_page(contents, findings), findings.to_json()
    with (
        _made(directory),
        replacing(directory / NUMBERS) as beside,
        replacing(directory / PAGE) as file,
    ):
        file.write(page.encode())
        beside.write(f"{numbers}\n".encode())
    return directory / PAGE


def render_page(contents: ReportContents, findings: Findings) -> str:
    """The page as HTML; whatever comes from data is escaped."""
    environment = Environment(
        loader=PackageLoader("training.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: (
            value if isinstance(value, Markup) else formats.without_control_characters(str(value))
        ),
    )
    environment.filters.update(percent=formats.percent, with_si_prefix=formats.with_si_prefix)
    return environment.get_template("page.html.jinja").render(
        contents=contents,
        findings=findings,
        draw=lambda name: _PLOTS[name](findings),
        expert_colours=plots.expert_colours(findings.experts),
        mark=Markup(MARK),  # noqa: S704, our own drawing
        many_above=MANY_ABOVE,
        few_below=FEW_BELOW,
    )


def refuse_foreign(directory: Path) -> None:
    """Refuse a folder that is not the report's own. Hidden files don't count: many leave some.

    Raises:
        ConfigError: `directory` is a file, or holds something else than an earlier report.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a folder: name another for the report")
    foreign = {path.name for path in directory.iterdir() if path.name[0] != "."}
    if not foreign:
        return
    if PAGE in foreign and foreign <= {PAGE, NUMBERS}:
        with (directory / PAGE).open(encoding="utf-8", errors="replace") as file:
            if MARK in file.read(_MARK_WITHIN):
                return
    raise ConfigError(
        f"{directory} holds something else than an earlier report: name another folder, "
        "or empty this one"
    )


@contextmanager
def _made(directory: Path) -> Iterator[None]:
    """Make a folder and those above it; none of them is left behind if what follows fails."""
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in new:
            with suppress(OSError):  # it holds something by now
                path.rmdir()
        raise
