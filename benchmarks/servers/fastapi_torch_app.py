"""The checkpoint behind FastAPI: every image takes every expert."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from fastapi import FastAPI, Request

from benchmarks.images import decode
from training.checkpoint import load_checkpoint

torch.set_num_threads(1)
model = load_checkpoint(Path(os.environ["RIDE_BENCH_CHECKPOINT"])).build_model().eval()
app = FastAPI()


@app.get("/health")
def health() -> str:
    """200 once the model is loaded."""
    return "ready"


@app.post("/classify")
async def classify(request: Request) -> dict[str, int]:
    """The best class of one image."""
    pixels = torch.from_numpy(np.array(decode(await request.body())))
    with torch.inference_mode():
        image = pixels.permute(2, 0, 1).float().unsqueeze(0) / 255
        index = int(model(image).logits.mean(dim=0).argmax())
    return {"index": index, "experts_used": model.config.num_experts}
