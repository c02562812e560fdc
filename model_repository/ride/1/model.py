"""`ride` in Triton's Python backend: serving/in_triton/routing_model.py."""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("serving") is None:  # not installed in Triton's Python: perhaps this is in a checkout
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from serving.in_triton.routing_model import RoutingModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
