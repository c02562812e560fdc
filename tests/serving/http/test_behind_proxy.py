"""Both servers below a proxy's path, and asked by pages of other origins."""

from __future__ import annotations

import re

import pytest

from tests.running.load import CLASSIFY
from tests.running.server import RunningServer

ROOT = "/models/ride"
SHOP = "https://shop.example"


@pytest.mark.parametrize("path", ["/v2/health/ready", "/v1/model", "/metrics", "/", "/docs/"])
def test_a_proxy_may_take_the_path_off_or_leave_it(behind_proxy: RunningServer, path: str) -> None:
    answers = [behind_proxy.get(address) for address in (path, f"{ROOT}{path}")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len({answer.headers["content-type"] for answer in answers}) == 1


def test_images_are_classified_either_way(
    behind_proxy: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    answers = [behind_proxy.post(path, content=pictures[0]) for path in (CLASSIFY, ROOT + CLASSIFY)]
    assert answers[0].status_code == 200
    assert answers[0].json() == answers[1].json()


def test_the_documentation_names_addresses_that_the_proxy_knows(
    behind_proxy: RunningServer,
) -> None:
    page = behind_proxy.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    sources += re.findall(r"url: '([^']+)'", page)
    assert f"{ROOT}/openapi.json" in sources
    for source in sources:
        assert source.startswith(f"{ROOT}/"), source
        assert behind_proxy.get(source).status_code == 200
    description = behind_proxy.get("/openapi.json").json()
    assert description["servers"] == [{"url": ROOT}]


def test_the_console_is_sent_to_where_its_addresses_hold(behind_proxy: RunningServer) -> None:
    moved = behind_proxy.get(ROOT)
    assert (moved.status_code, moved.headers["location"]) == (308, "ride/")
    asked = behind_proxy.get(f"{ROOT}?a=%2F&b")
    assert asked.headers["location"] == "ride/?a=%2F&b"
    page = behind_proxy.get(ROOT, follow_redirects=True)
    assert str(page.url) == f"{behind_proxy.url}{ROOT}/"
    assert page.headers["content-type"].startswith("text/html")


def test_what_is_announced_stands_below_the_path(behind_proxy: RunningServer) -> None:
    told = behind_proxy.log.read_text()
    assert f"Console: {behind_proxy.url}{ROOT}/\n" in told
    assert f"documentation: {behind_proxy.url}{ROOT}/docs\n" in told
    assert f"{behind_proxy.url}{ROOT}/v1/classify\n" in told


def test_similar_paths_are_none_of_the_servers(behind_proxy: RunningServer) -> None:
    for path in ("/models/riders/v1/model", f"{ROOT}{ROOT}/v1/model", "/models/v1/model"):
        assert behind_proxy.get(path).status_code == 404


def preflight(
    server: RunningServer, path: str, origin: str, method: str = "POST"
) -> tuple[int, str]:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, inference-header-content-length",
    }
    answer = server.client.options(path, headers=headers)
    return answer.status_code, answer.headers.get("access-control-allow-origin", "")


@pytest.mark.parametrize("path", [CLASSIFY, "/v2/models/ride/infer", "/v2/health/ready"])
def test_pages_of_the_named_origins_may_ask(behind_proxy: RunningServer, path: str) -> None:
    for origin in (SHOP, "http://localhost:3000"):
        assert preflight(behind_proxy, path, origin) == (200, origin)
    assert preflight(behind_proxy, path, "https://evil.example") == (400, "")
    assert preflight(behind_proxy, path, SHOP, "DELETE")[0] == 400


def test_pages_of_the_named_origins_may_read_answers_and_refusals(
    behind_proxy: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    """On the fast lane too, whatever the answer is."""
    for content, status in ((pictures[0], 200), (b"no image", 400), (bytes(2**20 + 1), 413)):
        answer = behind_proxy.post(CLASSIFY, content=content, headers={"Origin": SHOP})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
    other = behind_proxy.post(
        CLASSIFY, content=pictures[0], headers={"Origin": "https://evil.example"}
    )
    assert "access-control-allow-origin" not in other.headers


def test_no_other_page_may_ask_unless_it_is_named(
    either: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    assert preflight(either, CLASSIFY, SHOP) == (405, "")
    answer = either.post(CLASSIFY, content=pictures[0], headers={"Origin": SHOP})
    assert not [name for name in answer.headers if name.startswith("access-control")]
