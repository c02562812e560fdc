"""What the console is made of, as the server hands it out."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest

import serving
from serving.engine.graphs import Engine
from serving.settings import Settings
from tests.running.server import RunningServer

FOLDER = Path(serving.__path__[0]) / "console"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.*"))


def test_the_root_is_the_console(server: RunningServer) -> None:
    page = server.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.content == (FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_a_strict_policy(server: RunningServer, name: str) -> None:
    file = server.get(f"/console/{name}")
    assert file.status_code == 200
    assert file.content == (FOLDER / name).read_bytes()
    policy = file.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert file.headers["x-content-type-options"] == "nosniff"
    again = server.get(f"/console/{name}", headers={"If-None-Match": file.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_all_that_the_page_refers_to_is_there(server: RunningServer) -> None:
    sources = re.findall(r'(?:src|href)="([^"#]+)"', server.get("/").text)
    assert len(sources) >= 4
    for source in sources:
        address = urljoin(f"{server.url}/", source)
        assert address.startswith(f"{server.url}/")
        assert server.get(address).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nothing.js",
        "..%2fhttp.py",
        "%2e%2e/http.py",
        "examples/../../http.py",
        "%2fetc%2fpasswd",
    ],
)
def test_nothing_else_is_handed_out(server: RunningServer, path: str) -> None:
    assert server.get(f"/console/{path}").status_code == 404


def test_the_model_is_described(server: RunningServer, engine: Engine) -> None:
    model, manifest = server.get("/v1/model").json(), engine.manifest
    assert model["version"] == str(engine.version)
    assert model["class_names"] == list(manifest.class_names)
    assert model["class_counts"] == list(manifest.class_counts)
    assert model["num_experts"] == manifest.num_experts
    assert model["thresholds"] == list(manifest.thresholds)
    assert model["multiply_adds"]["experts"] == list(manifest.multiply_adds.experts)
    assert model["gears"]["fast"]["thresholds"] == list(manifest.gears["fast"].thresholds)
    assert model["evaluation"] == manifest.evaluation
    assert model["image"]["resize_shorter_side"] == manifest.image.resize_shorter_side
    limits, defaults = model["limits"], Settings()
    assert limits["body_bytes"] == defaults.max_body_bytes
    assert limits["images"] == defaults.max_images_per_request


def test_the_descriptions_schema_is_documented(server: RunningServer) -> None:
    description = server.get("/openapi.json").json()
    answer = description["paths"]["/v1/model"]["get"]["responses"]["200"]
    name = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    documented = description["components"]["schemas"][name]["properties"]
    assert set(documented) == set(server.get("/v1/model").json())
