"""Model repository -> answers.

Packages that import ONNX Runtime import this one first, in their `__init__`.
"""

import os

# ONNX Runtime looks at it once, when it is imported: otherwise it writes a device id and a database
# below the user's cache folder, and sends events about each session to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
