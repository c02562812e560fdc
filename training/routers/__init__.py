"""Routers, one a file: each scores how much a further expert would help an image.

All of them take the newest expert's embedding [N, D] and the prefix logits [N, C] (the mean of the
experts so far, corrected) and return scores [N] in [0, 1]; higher means go on. `registry.py`
lists them; `baselines.py` holds the two that can't be served.
"""
