"""Image files through torchvision.io and transforms.v2 on tensors, in a torch DataLoader.

The transforms guide of torchvision advises v2 on tensors, and a DataLoader's workers to run them.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from bench.peers.source import Source, ToImage, write_files

NUM_SAMPLES = 1 << 22
"""Images in an epoch, drawn with replacement: a stream that never ends within a round."""

prepare = write_files


def stream(source: Source) -> Iterator[torch.Tensor]:
    """Yield batches of files in random order."""
    files = _Files(source.files(), source.to_image)
    generator = torch.Generator().manual_seed(source.seed)
    sampler = RandomSampler(files, replacement=True, num_samples=NUM_SAMPLES, generator=generator)
    yield from DataLoader(
        files, source.batch_size, sampler=sampler, num_workers=source.num_workers, collate_fn=torch.stack
    )


class _Files(Dataset[torch.Tensor]):
    def __init__(self, files: list[Path], to_image: ToImage):
        self._files = files
        self._to_image = to_image

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._to_image(self._files[index].read_bytes())
