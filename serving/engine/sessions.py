"""Sessions of ONNX Runtime: one graph on the provider that was asked for, or an error."""

from __future__ import annotations

import onnxruntime as ort

from serving.engine.provider import Provider
from serving.errors import SettingsError

ort.disable_telemetry_events()  # its variable comes too late where it was imported before us


def open_session(graph: bytes, provider: Provider) -> ort.InferenceSession:
    """A session of one thread on a provider.

    One thread, because on a CPU parallel requests use the cores better than parallel operators.
    ONNX Runtime takes the CPU in silence where it can't load a provider; this does not.

    Raises:
        SettingsError: if this provider does not work on this machine.
        Exception: what ONNX Runtime raises for a graph that it can't run; its exceptions have no
            common base of their own.
    """
    if provider.onnx_name not in ort.get_available_providers():
        raise SettingsError(
            f"this build of ONNX Runtime has no {provider} provider; "
            "install onnxruntime-gpu, or serve with --provider cpu"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=provider.fallbacks)
    if session.get_providers()[0] != provider.onnx_name:
        raise SettingsError(
            f"ONNX Runtime could not start its {provider} provider (its message is above): "
            "install the CUDA libraries that it names, or serve with --provider cpu"
        )
    return session
