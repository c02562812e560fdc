"""The console, opened in a browser, and what it must show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.checkout import ROOT
from tests.running.server import RunningServer
from tests.running.waiting import WAIT_S

EXAMPLES = ROOT / "examples"
SHREW = EXAMPLES / "shrew-few.png"
CUP = EXAMPLES / "cup-many.png"  # one expert is enough
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 375, "height": 812}

expect.set_options(timeout=1_000 * WAIT_S)


@contextmanager
def console(
    browser: Browser, server: RunningServer, size: ViewportSize = DESKTOP, **options: Any
) -> Iterator[Page]:
    """The open console; at the end nothing was asked of anyone else and no script has failed."""
    page = browser.new_page(viewport=size, **options)
    page.set_default_timeout(1_000 * WAIT_S)
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda message: failed.append(message.text))
    try:
        page.goto(server.url)
        expect(page.locator("#served")).to_contain_text("version 1")
        yield page
        assert {url for url in asked if not url.startswith((server.url, "blob:"))} == set()
        # The browser itself notes every refusal by the server, which tests bring about.
        assert [text for text in failed if not text.startswith("Failed to load resource")] == []
    finally:
        page.close()


def percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else "< 0.1 %"


def assert_shows(page: Page, server: RunningServer, file: Path, **parameters: object) -> None:
    """The page shows what the server answers for a file."""
    body = server.post("/v1/classify", content=file.read_bytes(), params=parameters).json()
    (result,) = body["results"]
    facts = page.locator(".facts dd")
    expect(facts.first).to_have_text(f"{result['experts_used']} of 3")
    expect(facts.nth(1)).to_have_text(f"{100 * result['compute_share']:.0f} %")
    rows = [
        label["label"].replace("_", " ") + percent(label["probability"])
        for label in result["labels"]
    ]
    expect(page.locator(".labels li")).to_have_text(rows)
    expect(page.locator(".stage.ran")).to_have_count(result["experts_used"])
    shown = page.locator(".score-value")
    expect(shown).to_have_text([f"{score:.2f}" for score in result["router_scores"]])
