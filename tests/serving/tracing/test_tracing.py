"""Traces as a real collector gets them, from real servers over real sockets."""

from __future__ import annotations

import importlib
import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.errors import SettingsError
from serving.tracing.trace_context import TraceContext
from tests.running.server import RunningServer, running_server
from tests.running.waiting import wait_until
from tests.serving.tracing.otlp_collector import Collector, running_collector

CLASSIFY = "/v1/classify"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(
    repository: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that sends its traces there, and logs in JSON."""
    log = tmp_path_factory.mktemp("traced") / "log.txt"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        flags = ["--trace", "--access-log", "--log-format=json"]
        with running_server(repository, log, flags) as running:
            yield running


@pytest.fixture(scope="module")
def traced_front(
    repository: Path,
    collector: Collector,
    traced: RunningServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    """In front of that server, which stands for Triton; it logs as text."""
    log = tmp_path_factory.mktemp("traced_front") / "log.txt"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        environment.setenv("OTEL_SERVICE_NAME", "the-front")
        flags = ["--trace", "--access-log", f"--triton={traced.grpc_address}"]
        with running_server(repository, log, flags) as running:
            yield running


def new_parent(flags: str = "01") -> tuple[str, str, dict[str, str]]:
    """A client's trace and span, and the headers that name them."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, {"traceparent": f"00-{trace}-{span}-{flags}"}


def attributes(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        assert kind
        found[attribute.key] = getattr(attribute.value, kind)
    return found


def root_and_steps(spans: list[Span]) -> tuple[Span, list[Span]]:
    """The server's span, and what it is made of by time."""
    (root,) = (span for span in spans if span.kind == Span.SPAN_KIND_SERVER)
    steps = sorted(
        (span for span in spans if span.parent_span_id == root.span_id),
        key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano),
    )
    assert len(steps) == len(spans) - 1
    return root, steps


def test_a_request_is_a_span_of_its_clients_trace_and_steps_are_its_children(
    traced: RunningServer, collector: Collector, pictures: tuple[bytes, ...]
) -> None:
    trace, parent, headers = new_parent()
    files = [("file", (f"{i}.png", data)) for i, data in enumerate(pictures[:3])]
    headers |= {"tracestate": "vendor=1", "X-Request-ID": "mine-1"}
    query = {"threshold": 0}
    response = traced.post(CLASSIFY, files=files, headers=headers, params=query)
    assert response.headers["x-request-id"] == "mine-1"
    root, steps = root_and_steps(collector.trace(trace))
    assert root.parent_span_id.hex() == parent
    assert root.name == f"POST {CLASSIFY}"
    assert root.trace_state == "vendor=1"
    told = attributes(root)
    assert told["http.response.status_code"] == 200
    assert told["ride.request_id"] == "mine-1"
    assert (told["ride.images"], told["ride.experts"], told["ride.degraded"]) == (3, 9, False)
    assert [step.name for step in (steps[0], steps[1], steps[-1])] == [
        *("receive", "decode", "respond")
    ]
    for stage in (1, 2, 3):
        ran = [step for step in steps if step.name == f"stage {stage}"]
        waited = [step for step in steps if step.name == f"queue for stage {stage}"]
        assert sum(attributes(step)["ride.images"] for step in ran) == 3
        assert len(waited) == len(ran)
    for step in steps:
        assert root.start_time_unix_nano <= step.start_time_unix_nano
        assert step.start_time_unix_nano <= step.end_time_unix_nano <= root.end_time_unix_nano
    assert "ride-server" in collector.services


def test_a_trace_that_its_client_does_not_keep_is_not_kept_here(
    traced: RunningServer, collector: Collector, pictures: tuple[bytes, ...]
) -> None:
    left_out, _, headers = new_parent("00")
    assert traced.post(CLASSIFY, content=pictures[0], headers=headers).status_code == 200
    assert traced.get("/v2/health/ready", headers=new_parent()[2]).status_code == 200
    kept, _, headers = new_parent()
    assert traced.post(CLASSIFY, content=pictures[0], headers=headers).status_code == 200
    collector.trace(kept)
    assert left_out not in collector.trace_ids


def test_a_refused_request_is_no_fault_of_the_servers(
    traced: RunningServer, collector: Collector
) -> None:
    trace, _, headers = new_parent()
    assert traced.post(CLASSIFY, content=b"no image", headers=headers).status_code == 400
    root, steps = root_and_steps(collector.trace(trace))
    assert attributes(root)["http.response.status_code"] == 400
    assert root.status.code == Status.STATUS_CODE_UNSET
    assert "stage 1" not in [step.name for step in steps]
    trace, _, headers = new_parent()
    assert traced.post("/any/path/at/all", headers=headers).status_code == 404
    assert root_and_steps(collector.trace(trace))[0].name == "POST"


def test_grpc_carries_the_same(
    traced: RunningServer, collector: Collector, pixels: NDArray[np.uint8]
) -> None:
    trace, parent, headers = new_parent()
    tensor = triton.InferInput("image", [2, *pixels.shape[1:]], "UINT8")
    tensor.set_data_from_numpy(pixels[:2])
    with triton.InferenceServerClient(traced.grpc_address) as client:
        client.infer("ride", [tensor], headers=headers | {"x-request-id": "mine-2"})
    with grpc.insecure_channel(traced.grpc_address) as channel:
        ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer.with_call
        with pytest.raises(grpc.RpcError) as refused:
            ask(service_pb2.ModelInferRequest(), metadata=[("x-request-id", "mine-6")])
    assert ("x-request-id", "mine-6") in refused.value.trailing_metadata()
    root, steps = root_and_steps(collector.trace(trace))
    assert root.parent_span_id.hex() == parent
    assert root.name == "inference.GRPCInferenceService/ModelInfer"
    told = attributes(root)
    assert (told["ride.request_id"], told["ride.images"]) == ("mine-2", 2)
    assert "stage 1" in [step.name for step in steps]


def test_the_front_hands_ids_on(
    traced: RunningServer,
    traced_front: RunningServer,
    collector: Collector,
    pictures: tuple[bytes, ...],
) -> None:
    trace, parent, headers = new_parent()
    headers |= {"X-Request-ID": "mine-3"}
    assert traced_front.post(CLASSIFY, content=pictures[0], headers=headers).status_code == 200
    spans = collector.trace(trace, roots=2)
    front, behind = sorted(
        (span for span in spans if span.kind == Span.SPAN_KIND_SERVER),
        key=lambda span: span.parent_span_id.hex() != parent,
    )
    assert front.parent_span_id.hex() == parent
    assert behind.parent_span_id == front.span_id
    assert attributes(behind)["ride.request_id"] == "mine-3"
    (asked,) = (span for span in spans if span.name == "triton")
    assert attributes(asked)["server.address"] == traced.grpc_address
    assert "the-front" in collector.services


def test_lines_of_the_log_point_to_request_and_trace(
    traced: RunningServer, traced_front: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    trace, _, headers = new_parent()
    headers |= {"X-Request-ID": "mine-4"}
    traced.post(CLASSIFY, content=pictures[0], headers=headers, params={"max_experts": 1})
    line = json.loads(line_of("mine-4", traced))
    assert line["trace_id"] == trace
    assert line["request"] == f"POST {CLASSIFY}"
    assert (line["status"], line["images"], line["experts"]) == ("200", 1, 1)
    assert line["degraded"] is False
    assert 0 < line["duration_ms"] < 60_000
    assert line["logger"] == "serving.access"
    assert '"logger": "uvicorn.error"' in traced.log.read_text()

    traced_front.get("/%0AINFO:%20forged%1b[2J", headers={"X-Request-ID": "mine-5"})
    text = line_of("mine-5", traced_front)
    assert text.startswith(r"INFO:     GET /\nINFO: forged\x1b[2J status=404 duration_ms=")
    assert text.endswith(" [mine-5]")


def line_of(request_id: str, server: RunningServer) -> str:
    """The one of the log, which is written when the client has its answer already."""

    def found() -> list[str]:
        return [line for line in server.log.read_text().splitlines() if request_id in line]

    wait_until(lambda: bool(found()))
    return found()[0]


@given(st.dictionaries(st.sampled_from(["traceparent", "tracestate"]), st.text()))
def test_no_header_is_too_strange(headers: dict[str, str]) -> None:
    TraceContext.read(headers)


ids = st.integers(1, 2**64 - 1)


@given(ids, ids, st.booleans(), st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_a_context_is_read_as_it_was_written(
    trace: int, span: int, sampled: bool, state: str
) -> None:
    context = TraceContext(f"{trace:032x}", f"{span:016x}", sampled, state[:512])
    assert TraceContext.read(context.headers) == context


@pytest.mark.parametrize(
    "wrong",
    [
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"ff-{'1' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'1' * 16}-01-more",
        f"00-{'A' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'1' * 16}",
    ],
)
def test_a_wrong_context_is_none(wrong: str) -> None:
    assert TraceContext.read({"traceparent": wrong}) is None


def test_a_context_of_a_later_version_is_read() -> None:
    later = f"01-{'1' * 32}-{'2' * 16}-03-more"
    assert TraceContext.read({"traceparent": later}) == TraceContext("1" * 32, "2" * 16, True)


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "serving.tracing.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(SettingsError, match=r"pip install 'ride-server\[tracing\]'"):
        importlib.import_module("serving.tracing.spans")
