"""A folder for Matplotlib's list of fonts that is gone when the process ends.

Imported before Matplotlib, which would otherwise leave folders below the user's home.
"""

import os
import tempfile

_folder = tempfile.TemporaryDirectory(prefix="ride-matplotlib-")
os.environ.setdefault("MPLCONFIGDIR", _folder.name)
