"""`ride verify`: the same images to every engine, and whether they answer the same.

- `images`, `decoding`: where images come from, and batches of them as the model takes them
- `engines`: what is compared, all asked in one way; `torch_engine` and `server` are behind it
- `responses`, `verdict`: what an engine says of an image, and whether two of them say the same
- `comparison`, `agreement`, `report`: the loop, its counts for each engine, and how they are shown
- `session`: the whole of it; `commands`: its flags
"""

import serving  # noqa: F401, switches ONNX Runtime's telemetry off
