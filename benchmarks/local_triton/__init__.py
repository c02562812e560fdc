"""A real Triton without Docker or a GPU, from the wheel of NVIDIA's PyTriton.

    python -m benchmarks local-triton model_repository

The wheel has the server and its Python backend but no ONNX Runtime backend, so a Python-based
backend of that name (`onnxruntime_backend.py`) runs the graphs. The same repository runs here and
in the official image, whose backend is in C++ and costs less a call.
"""
