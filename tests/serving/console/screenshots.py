"""Pictures of the console for the documentation: a real server under a light load.

python -m tests.serving.console.screenshots
"""

from __future__ import annotations

import io
import itertools
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.checkout import ROOT
from tests.running.browser import find_chromium, running_browser
from tests.running.load import CLASSIFY, asking
from tests.running.server import RunningServer, running_server

_SECONDS = 40
"""How long the charts are left to fill."""


@dataclass(frozen=True)
class _Shot:
    name: str
    scheme: Literal["light", "dark"]
    width: int
    height: int
    scale: float = 1
    whole: bool = False


_SHOTS = (
    _Shot("light", "light", 1280, 900, whole=True),
    _Shot("dark", "dark", 1280, 900, whole=True),
    _Shot("phone", "light", 375, 1180, scale=1.5),
)


def main() -> None:
    """Write docs/images/console-*.png."""
    repository = ROOT / "model_repository"
    if (program := find_chromium()) is None:
        sys.exit("there is no Chromium")
    with (
        TemporaryDirectory() as folder,
        running_server(repository, Path(folder) / "log.txt", ["--audit-share=0.5"]) as server,
        _light_load(server),
        running_browser(program) as browser,
    ):
        pages = [(shot, _open(browser, server, shot)) for shot in _SHOTS]
        pages[0][1].wait_for_timeout(1_000 * _SECONDS)
        for shot, page in pages:
            page.evaluate("window.scrollTo(0, 0)" if shot.whole else "0")
            screenshot = page.screenshot(full_page=shot.whole)
            _write(screenshot, ROOT / "docs" / "images" / f"console-{shot.name}.png")


def _open(browser: Browser, server: RunningServer, shot: _Shot) -> Page:
    page = browser.new_page(
        viewport={"width": shot.width, "height": shot.height},
        device_scale_factor=shot.scale,
        color_scheme=shot.scheme,
    )
    page.goto(server.url)
    page.get_by_role("button", name="Example: road").click()
    page.locator(".verdict").wait_for()
    if shot.name != "phone":
        page.get_by_text("Compare the settings on this image").click()
    page.mouse.move(0, 0)
    return page


@contextmanager
def _light_load(server: RunningServer) -> Iterator[None]:
    """Some twenty images a second, in waves and with changing settings."""
    examples = sorted((ROOT / "examples").glob("*.png"))
    pictures = itertools.cycle([path.read_bytes() for path in examples])
    draws = random.Random(0)

    def ask() -> None:
        wave = int(time.monotonic()) % 20 < 8
        time.sleep(draws.uniform(0.01, 0.06 if wave else 0.12))
        server.post(f"{CLASSIFY}?top_k=1", content=next(pictures))

    with asking(ask):
        yield


def _write(screenshot: bytes, path: Path) -> None:
    """With a palette, which such pages can do with: a third of the size."""
    path.parent.mkdir(exist_ok=True)
    image = Image.open(io.BytesIO(screenshot)).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path.relative_to(ROOT), f"{path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
