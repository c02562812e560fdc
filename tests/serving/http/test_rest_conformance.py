"""The Open Inference Protocol's REST document, line by line (docs/protocol.md has the table)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.checkout import ROOT
from tests.running.server import RunningServer
from tests.serving.http.requests import INFER, assert_refused, infer_request

EMBEDDED = ("/v2", "/v2/models/ride", "/v2/models/ride/versions/1", "/v2/models/ride/ready")
BOTH = ("/v2/health/live", "/v2/health/ready", "/v1/model", "/metrics", "/openapi.json", "/docs")


def test_health_is_told_in_the_body_too(either: RunningServer) -> None:
    for path, body in (("live", {"live": True}), ("ready", {"ready": True})):
        answer = either.get(f"/v2/health/{path}")
        assert (answer.status_code, answer.json()) == (200, body)
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/v2/models/ride", "/v2/models/ride_image/versions/1"])
def test_a_model_that_is_ready_is_named(server: RunningServer, path: str) -> None:
    name = path.split("/")[3]
    assert server.get(f"{path}/ready").json() == {"name": name, "ready": True}
    assert_refused(server.get("/v2/models/resnet/ready"), 404, "no model 'resnet'")


@pytest.mark.parametrize("path", EMBEDDED)
def test_a_slash_at_the_end_changes_nothing(server: RunningServer, path: str) -> None:
    assert_same(server.get(f"{path}/"), server.get(path))


@pytest.mark.parametrize("path", BOTH)
def test_a_slash_at_the_end_changes_nothing_in_either(either: RunningServer, path: str) -> None:
    assert_same(either.get(f"{path}/"), either.get(path))


def assert_same(answer: Any, expected: Any) -> None:
    assert (answer.status_code, expected.status_code) == (200, 200)
    assert answer.headers["content-type"] == expected.headers["content-type"]
    if "metrics" not in str(expected.url):
        assert answer.content == expected.content


def test_a_slash_at_the_end_of_a_posts_path_changes_nothing(
    server: RunningServer, front: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    assert server.post(f"{INFER}/", json=infer_request()).status_code == 200
    for each in (server, front):
        assert each.post("/v1/classify/", content=pictures[0]).status_code == 200


@pytest.mark.parametrize("path", [*BOTH, "/", "/console/main.js"])
def test_head_is_get_without_the_body(either: RunningServer, path: str) -> None:
    head, get = either.client.head(path), either.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":
        assert head.headers["content-length"] == str(len(get.content))


def test_head_is_told_where_get_is_allowed(either: RunningServer) -> None:
    assert either.client.delete("/v2/health/live").headers["allow"] == "GET, HEAD"
    refused = either.client.head("/v1/classify")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_null_is_as_good_as_nothing(server: RunningServer) -> None:
    """What many clients write for an optional field that they leave out."""
    request = infer_request(parameters=None)
    request |= {"id": None, "parameters": None, "outputs": None}
    answer = server.post(INFER, json=request)
    assert answer.status_code == 200, answer.text
    assert "id" not in answer.json()
    request |= {"parameters": {"max_experts": None, "content_type": None}}
    request |= {"outputs": [{"name": "experts_used", "parameters": None}]}
    request["inputs"][0]["parameters"] = {"content_type": None, "binary_data_size": None}
    assert [each["name"] for each in server.post(INFER, json=request).json()["outputs"]] == [
        "experts_used"
    ]


def test_data_comes_once(server: RunningServer) -> None:
    request = infer_request(parameters={"binary_data_size": 3_072})
    body = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(body))}
    both = server.post(INFER, content=body + bytes(3_072), headers=headers)
    assert_refused(both, 400, "has data and binary_data_size: one is enough")
    request["inputs"][0]["data"] = None
    body = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(body))}
    assert server.post(INFER, content=body + bytes(3_072), headers=headers).status_code == 200
    assert_refused(server.post(INFER, json=infer_request(data=None)), 400, "has neither data nor")


def test_an_id_comes_back(server: RunningServer) -> None:
    answer = server.post(INFER, json={**infer_request(), "id": "42"}).json()
    assert answer["id"] == "42"
    assert (answer["model_name"], answer["model_version"]) == ("ride", "1")


def test_outputs_that_are_named_are_answered_and_no_others(server: RunningServer) -> None:
    request = {**infer_request(), "outputs": [{"name": "experts_used"}]}
    (output,) = server.post(INFER, json=request).json()["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("experts_used", [1], "INT32")
    assert len(output["data"]) == 1


def test_data_may_be_nested_or_flat(server: RunningServer) -> None:
    nested = [[[[7] * 3] * 32] * 32]
    answers = [
        server.post(INFER, json=infer_request(data=data)).json() for data in (nested, [7] * 3_072)
    ]
    assert answers[0] == answers[1]


def test_metadata_has_the_documents_fields(server: RunningServer) -> None:
    told = server.get("/v2").json()
    assert set(told) == {"name", "version", "extensions"}
    model = server.get("/v2/models/ride").json()
    assert set(model) == {"name", "versions", "platform", "inputs", "outputs"}
    assert model["platform"] == "ride_onnxruntime"
    for tensor in model["inputs"] + model["outputs"]:
        assert set(tensor) == {"name", "datatype", "shape"}
    assert model["inputs"][0]["shape"] == [-1, 32, 32, 3]


def test_the_tables_of_conformance_name_tests_that_exist() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", page))
    assert len(named) > 10
    modules = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    tests = set(re.findall(r"^def (test_\w+)\(", "\n".join(modules.values()), re.MULTILINE))
    assert named <= tests | set(modules)
    in_modules = re.findall(r"`((?:\w+/)*test_\w+)\.(test_\w+)`", page)
    assert len(in_modules) > 10
    for module, test in in_modules:
        path = ROOT / "tests" / "serving" / f"{module}.py"
        assert f"def {test}(" in path.read_text(), (module, test)
