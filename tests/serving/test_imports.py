"""What the server's process imports, seen from a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRAINING_ONLY = (
    *("torch", "torchvision", "pyarrow", "onnx", "onnxscript", "tensorboard"),
    *("training.model", "training.loop", "export.graphs"),
)


def modules_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", program]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_the_server_imports_no_torch_nor_anything_else_of_training() -> None:
    loaded = modules_after(
        "import serving.app, serving.triton_app, serving.grpc.server, serving.commands, ride"
    )
    assert {"onnxruntime", "fastapi", "ride", "serving.engine.graphs"} <= loaded
    assert not loaded & set(TRAINING_ONLY)


@pytest.mark.parametrize(
    "module",
    [
        "serving.triton.front",
        "serving.http.process",
        pytest.param(
            "serving.triton_app",
            marks=pytest.mark.xfail(
                strict=True, reason="serving.http.app imports the embedded data plane"
            ),
        ),
    ],
)
def test_in_front_of_triton_no_runtime_is_imported(module: str) -> None:
    loaded = modules_after(f"import {module}")
    assert {"serving.metrics.notes", "serving.engine.provider"} <= loaded
    assert not loaded & {"onnxruntime", "serving.engine.scheduler", "serving.engine.graphs"}


def test_tracing_costs_no_import_where_it_is_off() -> None:
    loaded = modules_after("import serving.app, serving.triton_app, serving.grpc.server")
    assert not loaded & {"serving.tracing.spans", "opentelemetry.sdk", "opentelemetry.exporter"}


def test_routing_and_manifest_need_nothing_but_numpy() -> None:
    loaded = modules_after("import serving.model.routing, serving.model.manifest")
    assert "numpy" in loaded
    assert not loaded & {"onnxruntime", "fastapi", "pydantic", "prometheus_client", "PIL"}
