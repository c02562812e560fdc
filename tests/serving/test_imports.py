"""What the server's process imports, seen from a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

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
        "import serving.app, serving.triton.app, serving.grpc.server, serving.commands, ride"
    )
    assert {"onnxruntime", "fastapi", "ride", "serving.engine.graphs"} <= loaded
    assert not loaded & set(TRAINING_ONLY)


def test_in_front_of_triton_no_runtime_is_imported() -> None:
    loaded = modules_after("import serving.triton.app")
    assert {"serving.metrics.notes", "serving.engine.provider"} <= loaded
    assert not loaded & {"onnxruntime", "serving.engine.scheduler", "serving.engine.graphs"}


def test_tracing_costs_no_import_where_it_is_off() -> None:
    loaded = modules_after("import serving.app, serving.triton.app, serving.grpc.server")
    assert not loaded & {"serving.tracing.spans", "opentelemetry.sdk", "opentelemetry.exporter"}


def test_routing_needs_nothing_but_numpy_and_the_manifest_pydantic_besides() -> None:
    others = {"onnxruntime", "fastapi", "prometheus_client", "PIL"}
    loaded = modules_after("import serving.model.routing")
    assert "numpy" in loaded
    assert not loaded & {*others, "pydantic"}
    loaded = modules_after("import serving.model.manifest_json")
    assert "pydantic" in loaded
    assert not loaded & others
