"""The shadow audit: what routing costs in accuracy, measured on a sample of answered images.

An image that was answered by the model's own rule may be sampled (`sampler.py`). In idle
moments all experts run on it (`auditor.py`), so that its answer can be held against the full
ensemble's (`audited.py`), and figures be made of many such (`report.py`).
"""
