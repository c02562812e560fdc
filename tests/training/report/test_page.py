"""The report as a folder: a page that needs nothing else, and never somebody else's files."""

from __future__ import annotations

import json
import re
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.training.report.made_up import NAMES, contents_of, curve_of, full_contents, run_of
from training.errors import ConfigError
from training.report import ReportContents, refuse_foreign, write_report

HOSTILE = "<script>alert(1)</script>"
ATTRIBUTE = '"><img src=x onerror=alert(1)>'
LOADING = {"script", "link", "img", "iframe", "object", "embed", "base", "image", "audio", "video"}
EMPTY_ELEMENTS = {"meta", "br", "img", "link", "hr", "base"}


class Page(HTMLParser):
    """Its elements with their attributes, and its text; elements must close in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY_ELEMENTS:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        """Of an attribute, wherever it is."""
        return [value for _, attrs in self.elements if (value := attrs.get(name)) is not None]


@pytest.fixture(scope="module")
def contents() -> ReportContents:
    return full_contents()


@pytest.fixture(scope="module")
def page(contents: ReportContents, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(write_report(contents, tmp_path_factory.mktemp("report")))


@pytest.fixture(scope="module")
def small() -> ReportContents:
    return contents_of(counts=(300, 5), names=("a", "b"))


@pytest.fixture(scope="module")
def written(small: ReportContents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "with" / "parents"
    assert write_report(small, folder) == folder / "index.html"
    return folder


@pytest.fixture
def earlier(written: Path, tmp_path: Path) -> Path:
    """A folder with a report."""
    return Path(shutil.copytree(written, tmp_path / "report"))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# The page


def test_the_page_loads_nothing(page: Page) -> None:
    assert not LOADING & {tag for tag, _ in page.elements}
    assert not page.values("src")
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    links = page.values("href") + page.values("xlink:href")
    assert {link for link in links if link[0] != "#"} == {"report.json"}
    assert "//" not in page.source
    assert "@import" not in page.source
    assert all(place[0] == "#" for place in re.findall(r"url\(([^)]*)\)", page.source))


def test_every_link_has_its_one_place(page: Page) -> None:
    ids = Counter(page.values("id"))
    assert set(ids.values()) == {1}
    links = page.values("href") + page.values("xlink:href") + page.values("aria-labelledby")
    places = re.findall(r"url\(#([^)]*)\)", page.source)
    assert {link.lstrip("#") for link in links} | set(places) <= {*ids, "report.json"}


def test_every_drawing_says_what_it_shows(page: Page) -> None:
    drawings = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert len(drawings) == 7
    assert len({attrs["aria-label"] for attrs in drawings}) == 7
    assert all(attrs["role"] == "img" for attrs in drawings)


def test_the_tables_have_the_numbers(page: Page, contents: ReportContents) -> None:
    for run in (contents.run, *contents.baselines):
        right = run.probabilities.argmax(axis=1) == contents.labels
        assert f"{run.name} routed {100 * right.mean():.1f} %" in page.text
    assert "1. as evaluated 54.0 % 2.00 74 M 0.5, 0.5" in page.text
    assert all(f"{name} " in page.text for name in NAMES)
    assert "3 runs with different seeds" in page.text
    right = contents.run.probabilities.argmax(axis=1) == contents.labels
    assert f"{100 * right.mean():.1f} % of 120 test images are named right" in page.text


def test_without_baselines_curves_and_seeds_the_page_says_so(
    small: ReportContents, tmp_path: Path
) -> None:
    reason = "there are no images to choose thresholds on"
    page = Page(write_report(replace(small, curves_missing=reason), tmp_path))
    assert "No baseline was given" in page.text
    assert f"There are no curves of routers: {reason}." in page.text
    assert "need at least two runs" in page.text
    assert "A dash stands for a shot group without test images" in page.text
    assert len([tag for tag, _ in page.elements if tag == "svg"]) == 6


def test_names_are_shown_not_obeyed(tmp_path: Path) -> None:
    names = (HOSTILE, ATTRIBUTE, "{{ 7 * 7 }}", "a & b", "\x1b[31m\ud800", "犬")
    labels = np.arange(120) % 6
    run = run_of(HOSTILE, labels, 6)
    page = Page(
        write_report(
            contents_of(
                title=HOSTILE,
                names=names,
                facts={ATTRIBUTE: HOSTILE},
                run=run,
                baselines=(replace(run, name=ATTRIBUTE),),
                curves=(curve_of(HOSTILE),),
                operating_points={ATTRIBUTE: curve_of("m").points[0]},
            ),
            tmp_path,
        )
    )
    assert not LOADING & {tag for tag, _ in page.elements}
    assert not page.values("onerror")
    assert page.text.count(HOSTILE) >= 5
    assert all(name in page.text for name in (ATTRIBUTE, "{{ 7 * 7 }}", "a & b", "犬"))
    assert "\x1b" not in page.source


# The folder


def test_the_folder_holds_the_page_and_its_numbers(earlier: Path) -> None:
    assert files(earlier) == ["index.html", "report.json"]
    assert {path.stat().st_mode & 0o777 for path in earlier.iterdir()} == {0o644}
    written = json.loads((earlier / "report.json").read_text())
    assert [each["name"] for each in written["classes"]] == ["a", "b"]


def test_an_earlier_report_is_replaced(small: ReportContents, earlier: Path) -> None:
    (earlier / ".DS_Store").touch()
    write_report(replace(small, title="second"), earlier)
    assert Page(earlier / "index.html").text.startswith("second")
    assert files(earlier) == [".DS_Store", "index.html", "report.json"]


def test_half_a_report_is_no_foreign_folder(earlier: Path) -> None:
    """As a crash at the wrong moment leaves it."""
    (earlier / "report.json").unlink()
    refuse_foreign(earlier)


def own_page(folder: Path) -> None:
    (folder / "index.html").write_text("<!doctype html><title>My holidays</title>")
    (folder / "report.json").write_text("{}")


def more_than_a_report(folder: Path) -> None:
    (folder / "thesis.tex").write_text("precious")


def numbers_alone(folder: Path) -> None:
    (folder / "index.html").unlink()


@pytest.mark.parametrize("change", [own_page, more_than_a_report, numbers_alone])
def test_somebody_else_s_folder_is_refused(
    small: ReportContents, earlier: Path, change: Callable[[Path], None]
) -> None:
    change(earlier)
    before = bytes_of(earlier)
    with pytest.raises(ConfigError, match="something else than an earlier report"):
        write_report(small, earlier)
    assert bytes_of(earlier) == before


def test_a_file_is_refused(small: ReportContents, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(ConfigError, match="is not a folder"):
        write_report(small, tmp_path / "report")
    assert (tmp_path / "report").read_text() == "mine"


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can be longer than this, so a report can't be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_fails_leaves_nothing_behind(small: ReportContents, tmp_path: Path) -> None:
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write_report(small, tmp_path / "a" / "b")
    assert files(tmp_path) == []


def test_what_fails_leaves_the_earlier_report(small: ReportContents, earlier: Path) -> None:
    before = bytes_of(earlier)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write_report(replace(small, title="second"), earlier)
    assert bytes_of(earlier) == before
