"""The self-routing graph in Node and in a browser: the labels and experts of `ride classify`."""

from __future__ import annotations

import functools
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from serving.engine.graphs import Engine, load_engine
from serving.images.decode import ImageLimits, decode_image
from tests.checkout import ROOT
from tests.running.browser import find_chromium, running_browser

EXAMPLES = ROOT / "examples"
GRAPH = ROOT / "model_repository" / "ride_graph" / "1" / "model.onnx"
Answers = list[tuple[str, int]]
"""Label and experts of each image."""


@pytest.fixture(scope="module")
def engine(repository: Path) -> Engine:
    return load_engine(repository)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The examples, and one of them enlarged to a photograph that is wider than high."""
    examples = sorted(EXAMPLES.glob("*.png"))
    photograph = tmp_path_factory.mktemp("photograph") / "photograph.png"
    with Image.open(examples[0]) as image:
        image.resize((301, 200), Image.Resampling.BICUBIC).save(photograph)
    return [*examples, photograph]


@pytest.fixture(scope="module")
def expected(engine: Engine, images: list[Path]) -> Answers:
    spec = engine.manifest.image
    pixels = [decode_image(path.read_bytes(), spec, ImageLimits()) for path in images]
    routed = engine.classify(np.stack(pixels), engine.rule())
    labels = [engine.manifest.class_names[best] for best in routed.probabilities.argmax(axis=1)]
    return list(zip(labels, routed.experts_used.tolist(), strict=True))


def require_installed(folder: Path) -> None:
    if not (folder / "node_modules").is_dir():
        pytest.skip(f"npm has not installed {folder.name}'s packages: make test does")


def test_node_answers_as_the_server_does(images: list[Path], expected: Answers) -> None:
    folder = EXAMPLES / "node"
    require_installed(folder)
    command: list[str | Path] = ["node", folder / "classify.mjs", GRAPH, *images]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answers = [json.loads(line) for line in output.splitlines()]
    assert [(answer["label"], answer["experts_used"]) for answer in answers] == expected
    assert {used for _, used in expected} == {1, 2, 3}


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"no model"], ids=["empty", "0", "text"])
def test_node_refuses_another_file(content: bytes, images: list[Path], tmp_path: Path) -> None:
    folder = EXAMPLES / "node"
    require_installed(folder)
    (tmp_path / "model.onnx").write_bytes(content)
    command: list[str | Path] = [
        "node",
        folder / "classify.mjs",
        tmp_path / "model.onnx",
        images[0],
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "this file is no" in ended.stderr


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """The page, from a plain file server at the checkout's root."""
    require_installed(EXAMPLES / "browser")
    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed")
    handler = functools.partial(_Quiet, directory=ROOT)
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        running_browser(program) as browser,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/examples/browser/")
        page.wait_for_selector("#status[data-ready]")
        yield page
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_browser_answers_as_the_server_does(
    page: Page, images: list[Path], expected: Answers
) -> None:
    page.set_input_files("#files", images)
    for answered in range(1, len(images) + 1):
        page.wait_for_selector(f"#answers > li:nth-child({answered})[data-label]")
    found = page.eval_on_selector_all(
        "#answers > li",
        "items => items.map(item => [item.dataset.label, +item.dataset.expertsUsed])",
    )
    assert [tuple(answer) for answer in found] == expected


def test_a_browser_shows_the_way_through_the_experts(page: Page) -> None:
    page.set_input_files("#files", EXAMPLES / "bee-many.png")
    way = page.locator("#answers > li:last-child .path")
    way.wait_for()
    kinds = [item.get_attribute("class") for item in way.locator("li").all()]
    assert kinds == ["expert", "why", "expert", "why", "expert spared"]


def test_a_file_that_is_no_image_costs_the_others_nothing(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("mine")
    page.set_input_files("#files", [tmp_path / "notes.png", EXAMPLES / "cup-many.png"])
    page.wait_for_selector("#answers > li:last-child[data-label=cup]")
    problem = page.locator("#answers > li:nth-last-child(2) .problem")
    assert problem.inner_text() == "notes.png: this browser can't read it as an image"
