"""`ride_decoding` in Triton's Python backend: serving/in_triton/decoding_model.py."""

import sys
from pathlib import Path

try:
    import serving.in_triton
except ModuleNotFoundError:  # not installed in Triton's Python: perhaps this is in a checkout
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from serving.in_triton.decoding_model import DecodingModel as TritonPythonModel  # noqa: E402, F401
