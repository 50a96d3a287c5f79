"""MosaicML Streaming: images in its MDS shards, read by its StreamingDataset."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

from bench.peers.source import Source, repeated_bytes
from shards.fold import Fold


def prepare(fold: Fold, folder: Path) -> None:
    """Write uncompressed shards of the default size, 64 MB."""
    with MDSWriter(out=str(folder), columns={"image": "bytes"}) as writer:
        for image in repeated_bytes(fold):
            writer.write({"image": image})


def stream(source: Source) -> Iterator[torch.Tensor]:
    """Yield batches of shuffled epochs, one after the other."""
    loader: DataLoader[torch.Tensor] = DataLoader(
        _Images(source),
        source.batch_size,
        num_workers=source.num_workers,
        collate_fn=torch.stack,
        persistent_workers=True,
    )
    while True:
        yield from loader


class _Images(StreamingDataset):
    def __init__(self, source: Source):
        super().__init__(local=str(source.folder), shuffle=True, shuffle_seed=source.seed, batch_size=source.batch_size)
        self._to_image = source.to_image

    def __getitem__(self, index: int) -> Any:
        return self._to_image(super().__getitem__(index)["image"])
