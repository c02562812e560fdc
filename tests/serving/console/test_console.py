"""The console in a real browser, against a real server."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

from tests.running.browser import find_chromium, running_browser
from tests.running.load import CLASSIFY, Load
from tests.running.server import RunningServer, running_server
from tests.running.waiting import wait_until
from tests.serving.console.opened import CUP, EXAMPLES, PHONE, SHREW, assert_shows, console

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium; on Debian: apt-get install chromium"
)


CONTRAST = """() => {
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const weights = [0.2126, 0.7152, 0.0722];
  const light = (rgb) => weights.reduce((sum, w, i) => sum + w * channel(rgb[i] / 255), 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const [r, g, b, alpha = 1] = parse(getComputedStyle(node).backgroundColor);
      if (alpha === 1) return [r, g, b];
    }
    throw new Error("nothing is behind");
  };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(parse(style.color)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) poor.push(`${texts.currentNode.data}: ${ratio}`);
    seen += 1;
  }
  return { poor, seen };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM
    with running_browser(CHROMIUM) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: RunningServer) -> Iterator[Page]:
    with console(browser, server) as page:
        yield page


def test_a_chosen_file_is_answered_as_by_the_api(page: Page, server: RunningServer) -> None:
    page.locator("#files").set_input_files(CUP)
    assert_shows(page, server, CUP)
    (result,) = server.post("/v1/classify", content=CUP.read_bytes()).json()["results"]
    (score,) = result["router_scores"]
    threshold = server.get("/v1/model").json()["thresholds"][0]
    expect(page.locator("#announcement")).to_contain_text("cup")
    expect(
        page.get_by_text(
            f"Router 1 scored {score:.2f}, not above {threshold:.2f}: stops here."
        ).first
    ).to_be_visible()


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_file_can_be_dropped_and_pasted(page: Page, server: RunningServer, how: str) -> None:
    page.evaluate(
        """([how, data]) => {
          const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "a.png", { type: "image/png" }));
          const target = document.getElementById("drop");
          target.dispatchEvent(how === "drop"
            ? new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer })
            : new ClipboardEvent("paste", { bubbles: true, clipboardData: transfer }));
        }""",
        [how, base64.b64encode(SHREW.read_bytes()).decode()],
    )
    assert_shows(page, server, SHREW)


def test_an_example_shows_at_once_what_the_knob_does(page: Page, server: RunningServer) -> None:
    page.get_by_role("button", name="Example: shrew").click()
    assert_shows(page, server, SHREW)
    page.get_by_text("All experts", exact=True).click()
    assert_shows(page, server, SHREW, quality="full")
    page.locator("label[for=most-experts-2]").click()
    assert_shows(page, server, SHREW, quality="full", max_experts=2)
    expect(page.get_by_text("at most 2 experts allowed").first).to_be_visible()
    page.get_by_text("Custom", exact=True).click()
    page.get_by_role("slider").fill("0.9")
    assert_shows(page, server, SHREW, threshold=0.9, max_experts=2)


def test_settings_are_compared_on_the_image(page: Page, server: RunningServer) -> None:
    page.get_by_role("button", name="Example: shrew").click()
    page.get_by_text("Compare the settings on this image").click()
    rows = page.locator(".compare tbody tr")
    expect(rows).to_have_count(3)
    for row, quality in zip(rows.all(), ("fast", "balanced", "full"), strict=True):
        answer = server.post(f"/v1/classify?quality={quality}", content=SHREW.read_bytes()).json()
        (result,) = answer["results"]
        best = result["labels"][0]
        expect(row).to_contain_text(f"{best['label']} {100 * best['probability']:.1f} %")
        expect(row.locator("td").nth(1)).to_have_text(str(result["experts_used"]))


def test_several_images_are_one_request(page: Page, server: RunningServer) -> None:
    files = sorted(EXAMPLES.glob("*.png"))
    with page.expect_request("**/v1/classify?*"):
        page.locator("#files").set_input_files(files)
    thumbs = page.locator(".strip button")
    expect(thumbs).to_have_count(len(files))
    place = files.index(SHREW)
    thumbs.nth(place).click()
    expect(thumbs.nth(place)).to_be_focused()
    assert_shows(page, server, SHREW)


def test_the_keyboard_is_enough(page: Page, server: RunningServer) -> None:
    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.locator(":focus")
            if focused.get_attribute("aria-label") == name or focused.get_attribute("id") == name:
                return
        raise AssertionError(f"the Tab key never leads to {name}")

    tab_to("Example: shrew")
    width = page.locator(":focus").evaluate("(node) => getComputedStyle(node).outlineWidth")
    assert width == "3px"
    page.keyboard.press("Enter")
    assert_shows(page, server, SHREW)
    tab_to("quality-own")
    page.keyboard.press("ArrowRight")
    assert_shows(page, server, SHREW, quality="fast")
    tab_to("3 experts")
    page.keyboard.press("ArrowLeft")
    assert_shows(page, server, SHREW, quality="fast", max_experts=2)


def test_every_control_and_picture_has_a_name(page: Page) -> None:
    page.locator("#files").set_input_files(sorted(EXAMPLES.glob("*.png"))[:2])
    page.get_by_text("Custom", exact=True).click()
    page.get_by_text("The same as a table").click()
    expect(page.locator("#live-table th[scope=row]").first).to_be_visible()
    tree = page.locator("body").aria_snapshot()
    roles = "button|link|radio|slider|img|region|form|group|textbox|checkbox|heading|navigation"
    nameless = re.findall(rf"^ *- (?:{roles})(?: \[.*\])?:?$", tree, re.MULTILINE)
    # `details` is a group that needs no name of its own.
    assert [line for line in nameless if "group" not in line] == []
    for found in ('heading "Classify an image"', 'slider "Threshold', 'radio "Balanced"', "status"):
        assert found in tree
    assert re.search(r'img "Images a second: now [\d.]+', tree)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_readable(browser: Browser, server: RunningServer, scheme: Any) -> None:
    with console(browser, server, color_scheme=scheme, reduced_motion="reduce") as page:
        page.get_by_role("button", name="Example: shrew").click()
        page.get_by_text("Compare the settings on this image").click()
        expect(page.locator(".compare tbody tr")).to_have_count(3)
        contrast = page.evaluate(CONTRAST)
        assert contrast["poor"] == []
        assert contrast["seen"] > 80
        page.locator("#files").set_input_files(Path(__file__))
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.evaluate(CONTRAST)["poor"] == []


def test_the_theme_can_be_chosen_and_is_remembered(page: Page) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.get_by_role("button", name="Theme: system").click()
    assert background() == light
    page.get_by_role("button", name="Theme: light").click()
    dark = background()
    assert dark != light
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert background() == dark


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, server: RunningServer) -> None:
    with console(browser, server, PHONE) as page:
        page.locator("#files").set_input_files(sorted(EXAMPLES.glob("*.png")))
        page.get_by_text("Compare the settings on this image").click()
        page.get_by_text("The same as a table").click()
        expect(page.locator(".compare tbody tr")).to_have_count(3)
        expect(page.locator("#live-table td").first).to_be_attached()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_charts_show_what_all_clients_do(page: Page, server: RunningServer) -> None:
    def chart(title: str) -> Any:
        return page.locator(".chart", has_text=title)

    expect(chart("Images a second")).to_be_visible()
    with Load(server, f"{CLASSIFY}?max_experts=1", clients=1, content=SHREW.read_bytes()):
        expect(chart("Experts per image").locator("strong")).to_have_text("1.00")
        expect(chart("Compute saved").locator("strong")).to_have_text("51 %")
        expect(chart("Images that stop after").locator("strong")).to_have_text("100 % · 0 % · 0 %")
        expect(chart("Images a second").locator("strong")).to_have_text(re.compile("[1-9]"))
    assert "L" in chart("Images a second").locator(".line").get_attribute("d")
    page.get_by_role("button", name="Pause").click()
    drawn = chart("Images a second").locator("svg").inner_html()
    page.wait_for_timeout(1_200)
    assert chart("Images a second").locator("svg").inner_html() == drawn


def test_the_audit_is_shown_once_there_is_one(
    browser: Browser, repository: Path, tmp_path: Path
) -> None:
    flags = ["--audit-share=1"]
    with running_server(repository, tmp_path / "log.txt", flags) as audited:
        for file in sorted(EXAMPLES.glob("*.png")):
            audited.post("/v1/classify", content=file.read_bytes())

        def agreement() -> dict[str, Any]:
            audit: dict[str, Any] = audited.get("/v1/audit").json()["audit"]
            return dict(audit["report"]["agreement"]["all"])

        wait_until(lambda: agreement()["of"] == 12)
        found = agreement()
        with console(browser, audited, PHONE) as page:
            row = page.locator(".audit-card", has_text="Same answer").locator("dl > div").first
            expect(row).to_contain_text(f"{100 * found['share']:.1f} %")
            interval = f"{100 * found['low']:.1f} % to {100 * found['high']:.1f} %"
            expect(row).to_contain_text(interval)
            expect(page.locator("#audit-about")).to_contain_text("the newest 12")
            assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
            assert page.evaluate(CONTRAST)["poor"] == []


def test_a_file_that_is_no_image_is_refused_kindly(page: Page, server: RunningServer) -> None:
    page.locator("#files").set_input_files(Path(__file__))
    expect(page.get_by_role("alert")).to_contain_text("The bytes are text, which is not accepted")
    page.get_by_role("button", name="Example: shrew").click()
    assert_shows(page, server, SHREW)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_files_that_are_too_large_or_many_are_not_even_sent(
    browser: Browser,
    strict_server: RunningServer,
    png: Callable[[NDArray[np.uint8]], bytes],
    tmp_path: Path,
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    large = tmp_path / "large.png"
    large.write_bytes(png(noise))
    with console(browser, strict_server) as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        page.locator("#files").set_input_files(large)
        expect(page.get_by_role("alert")).to_contain_text("more than 1 MiB")
        page.locator("#files").set_input_files(sorted(EXAMPLES.glob("*.png")))
        expect(page.get_by_role("alert")).to_contain_text("At most 3 images at once")
        assert "POST" not in sent


@contextmanager
def without_room(server: RunningServer) -> Iterator[None]:
    """A large upload that does not come to its end, so that no other body finds room."""
    head = b"POST /v1/classify HTTP/1.1\r\nHost: ride\r\nContent-Length: 2000000\r\n\r\n"
    for pause_s in (0.2, 1, 5, 20):
        with server.connect() as other:
            other.sendall(head + bytes(2**20 - 100))
            time.sleep(pause_s)  # a busy machine has not read all of it at once
            if server.post(CLASSIFY, content=SHREW.read_bytes()).status_code == 503:
                yield
                return
    pytest.fail("the upload was never read to its end")


def test_a_busy_server_and_one_that_is_gone_are_told_apart(
    browser: Browser, repository: Path, tmp_path: Path
) -> None:
    total = "--max-total-body-mib=1"
    with (
        running_server(repository, tmp_path / "log.txt", [total]) as busy,
        console(browser, busy) as page,
    ):
        with without_room(busy):
            page.locator("#files").set_input_files(SHREW)
            expect(page.get_by_role("alert")).to_contain_text("The server has too much to do")
            expect(page.get_by_role("alert")).to_contain_text("wait 1 s")
        page.get_by_role("button", name="Try again").click()
        assert_shows(page, busy, SHREW)
        busy.process.kill()
        page.get_by_role("button", name="Example: cup").click()
        expect(page.get_by_role("alert")).to_contain_text("can't be reached")
        expect(page.locator("#health")).to_have_text("Unreachable")
