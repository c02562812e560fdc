"""What runs inside Triton's Python backend: the models `ride` and `ride_decoding`.

Their folders in a model repository hold a `model.py` of a few lines that imports these classes, so
that Triton runs the very code that the embedded server runs. Triton's Python needs this package,
numpy, Pillow and pydantic (docs/triton.md).
"""

MAX_BATCH_SIZE = 1_024
"""Images of a request, and of a batch that Triton makes of several."""
