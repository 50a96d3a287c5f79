"""LitData: images in its chunks, read by its StreamingDataset and StreamingDataLoader."""

from collections.abc import Iterator
from pathlib import Path

import litdata
import torch

from bench.peers.source import Source, repeated_bytes
from shards.fold import Fold


def prepare(fold: Fold, folder: Path) -> None:
    """Write chunks of 64 MB, the size that LitData's README takes."""
    litdata.optimize(
        _as_sample,
        inputs=repeated_bytes(fold),
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
        start_method="fork",  # its default would set "spawn" for the whole process
        verbose=False,
    )


def stream(source: Source) -> Iterator[torch.Tensor]:
    """Yield batches of shuffled epochs, one after the other."""
    dataset = litdata.StreamingDataset(
        str(source.folder), shuffle=True, seed=source.seed, transform=lambda sample: source.to_image(sample["image"])
    )
    loader = litdata.StreamingDataLoader(
        dataset,
        batch_size=source.batch_size,
        num_workers=source.num_workers,
        collate_fn=torch.stack,
        persistent_workers=True,
    )
    while True:
        yield from loader


def _as_sample(image: bytes) -> dict[str, bytes]:
    return {"image": image}
