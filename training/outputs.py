"""What every expert says of a set of images, collected once and kept.

Routers and thresholds are chosen, compared and measured on these, without running an expert again.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.files import replacing
from serving.model.routing import Float
from training.augmentation import to_unit_range
from training.errors import DataError
from training.model import RideModel, prefix_means

_CHUNK = 1_000


@dataclass(frozen=True)
class Outputs:
    """Every expert's outputs on N images, and the images' labels.

    Shapes: logits fp32 [K, N, C], embeddings fp32 [K, N, D], labels int64 [N].
    """

    logits: Float
    embeddings: Float
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, rows: slice) -> Outputs:
        """Those of some of the images."""
        return Outputs(self.logits[:, rows], self.embeddings[:, rows], self.labels[rows])


def expert_outputs(
    model: RideModel, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device
) -> Iterator[Outputs]:
    """Run every expert on batches of images, uint8 [N, H, W, 3], and labels, int64 [N].

    One `Outputs` a batch, so that a large set need not fit in memory.
    """
    model = model.to(device).eval()
    for images, labels in batches:
        with torch.inference_mode():
            outputs = model(to_unit_range(images.to(device)))
        yield Outputs(
            outputs.logits.cpu().numpy(),
            outputs.embeddings.cpu().numpy(),
            labels.cpu().numpy().astype(np.int64),
        )


def collect_outputs(
    model: RideModel, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device
) -> Outputs:
    """Like `expert_outputs`, all batches in one.

    Raises:
        DataError: if there is no batch.
    """
    parts = list(expert_outputs(model, batches, device))
    if not parts:
        raise DataError("there are no images to run the experts on")
    return Outputs(
        np.concatenate([part.logits for part in parts], axis=1),
        np.concatenate([part.embeddings for part in parts], axis=1),
        np.concatenate([part.labels for part in parts]),
    )


def prefix_logits(outputs: Outputs, corrections: Float | None = None) -> Float:
    """Mean logits of the first 1, 2, .. K experts, plus corrections [K, C] if any: [K, N, C]."""
    added = None if corrections is None else torch.from_numpy(corrections)
    means: Float = prefix_means(torch.from_numpy(outputs.logits), added).numpy()
    return means


def router_scores(
    routers: nn.ModuleList,
    outputs: Outputs,
    device: torch.device,
    corrections: Float | None = None,
) -> Float:
    """Ask every router about every image: fp32 [K-1, N]."""
    routers = routers.to(device).eval()
    scores = np.empty((len(routers), len(outputs)), dtype=np.float32)
    for start in range(0, len(outputs), _CHUNK):
        rows = slice(start, start + _CHUNK)
        chunk = outputs.rows(rows)
        prefixes = torch.from_numpy(prefix_logits(chunk, corrections)).to(device)
        with torch.inference_mode():
            for i, router in enumerate(routers):
                embedding = torch.from_numpy(chunk.embeddings[i]).to(device)
                scores[i, rows] = router(embedding, prefixes[i]).cpu().numpy()
    return scores


def prefix_predictions(outputs: Outputs, corrections: Float | None = None) -> NDArray[np.intp]:
    """The class that the mean of the first 1, 2, .. K experts predicts, [K, N]."""
    chunks = (outputs.rows(slice(i, i + _CHUNK)) for i in range(0, len(outputs), _CHUNK))
    return np.concatenate(
        [prefix_logits(chunk, corrections).argmax(axis=2) for chunk in chunks], axis=1
    )


def experts_digest(model: RideModel) -> str:
    """SHA-256 (hexadecimal) of the weights that decide what the experts say; not the routers'."""
    digest = hashlib.sha256()
    for part in (model.backbone, model.experts):
        for name, tensor in part.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_outputs(outputs: Outputs, key: str, path: Path) -> None:
    """Write outputs to a numpy archive; `key` says what they are of."""
    with replacing(path) as file:
        np.savez(
            file,
            key=np.array(key),
            logits=outputs.logits,
            embeddings=outputs.embeddings,
            labels=outputs.labels,
        )


def load_outputs(key: str, path: Path) -> Outputs | None:
    """What `save_outputs` wrote under this key; None if there is none, or of something else."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if str(archive["key"]) != key:
                return None
            return Outputs(archive["logits"], archive["embeddings"], archive["labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # collecting them again is always possible
