"""Epochs of small shards, for tests of loaders."""

from pathlib import Path

import numpy as np
import torch
from tiny_nih import pack_tiny, write_nih

from pipelines.batch import Loader
from pipelines.spec import InputSpec

SIZE = 24
FLIPPED = InputSpec(SIZE, flip=0.5)
CODECS = ("raw", "png", "jpeg")

Epoch = tuple[torch.Tensor, torch.Tensor, np.ndarray]


def pack_codecs(folder: Path) -> dict[str, Path]:
    """Pack the same 40 images with each codec."""
    images, labels = write_nih(folder)
    for codec in CODECS:
        pack_tiny(folder / codec, images, labels, codec=codec, size=SIZE)
    return {codec: folder / codec for codec in CODECS}


def epoch_of(loader: Loader, index: int = 0, first_batch: int = 0) -> Epoch:
    """All of an epoch's images, labels and rows, copied out of the loader's memory."""
    batches = [(batch.images.clone(), batch.labels.clone(), batch.rows) for batch in loader.epoch(index, first_batch)]
    images, labels, rows = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels), np.concatenate(rows)


def assert_equal_epochs(one: Epoch, other: Epoch) -> None:
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert np.array_equal(one[2], other[2])
