"""The shards themselves, read by webdataset.

As its documentation advises: shards resampled without end, a shuffle buffer, batches made in the workers.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
import webdataset

from bench.peers.source import Source
from shards.fold import Fold

SHUFFLE_BUFFER = 1000
"""Samples, the size in webdataset's own examples."""


def prepare(fold: Fold, folder: Path) -> None:
    """Do nothing: webdataset reads the shards."""


def stream(source: Source) -> Iterator[torch.Tensor]:
    """Yield batches of samples in about random order."""
    extension = source.extension()
    dataset = (
        webdataset.WebDataset(source.tars(), resampled=True, shardshuffle=False, seed=source.seed)
        .shuffle(SHUFFLE_BUFFER)
        .map(lambda sample: source.to_image(sample[extension]))
        .batched(source.batch_size, collation_fn=torch.stack, partial=False)
    )
    yield from webdataset.WebLoader(dataset, batch_size=None, num_workers=source.num_workers)
