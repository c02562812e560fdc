"""A collector of OpenTelemetry spans: takes them over OTLP/HTTP, as any backend does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.running.waiting import WAIT_S


class Collector:
    """Keeps every span that it gets, with the name of the service that sent it."""

    def __init__(self) -> None:
        self.url = ""
        self._spans: list[tuple[str, Span]] = []
        self._arrived = threading.Condition()

    def take(self, body: bytes) -> None:
        message = ExportTraceServiceRequest.FromString(body)
        with self._arrived:
            for resource in message.resource_spans:
                (name,) = (
                    attribute.value.string_value
                    for attribute in resource.resource.attributes
                    if attribute.key == "service.name"
                )
                for scope in resource.scope_spans:
                    self._spans += [(name, span) for span in scope.spans]
            self._arrived.notify_all()

    def trace(self, trace_id: str, roots: int = 1) -> list[Span]:
        """A trace's spans, once so many of them came that are a server's."""

        def found() -> list[Span]:
            return [span for _, span in self._spans if span.trace_id.hex() == trace_id]

        def complete() -> bool:
            return sum(span.kind == Span.SPAN_KIND_SERVER for span in found()) >= roots

        with self._arrived:
            assert self._arrived.wait_for(complete, WAIT_S), f"no trace {trace_id} came"
            return found()

    @property
    def services(self) -> set[str]:
        return {name for name, _ in self._spans}

    @property
    def trace_ids(self) -> set[str]:
        return {span.trace_id.hex() for _, span in self._spans}


@contextmanager
def running_collector() -> Iterator[Collector]:
    """On a free port of this machine."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
