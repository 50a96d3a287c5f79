"""A loader of seeded random images in memory, whose findings are bright quadrants: learnable in a few steps."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from pipelines.batch import Batch
from pipelines.order import EpochOrder

FINDINGS = ("Atelectasis", "Mass", "Nodule")


class MemoryLoader:
    def __init__(
        self,
        num_images: int,
        batch_size: int,
        *,
        size: int = 32,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        num_ranks: int = 1,
        first_row: int = 0,
        unknown: float = 0.0,
    ) -> None:
        random = np.random.default_rng(seed)
        self.rows = np.arange(first_row, first_row + num_images, dtype=np.int32)
        self.labels = (random.random((num_images, len(FINDINGS))) < 0.5).astype(np.float32)
        self.images = random.integers(0, 100, (num_images, 1, size, size), dtype=np.uint8)
        half = size // 2
        for index, (y, x) in enumerate([(0, 0), (0, half), (half, 0)]):
            bright = self.labels[:, index] == 1
            self.images[bright, :, y : y + half, x : x + half] += 100
        self.labels[random.random(self.labels.shape) < unknown] = np.nan
        self.order = EpochOrder(num_images, batch_size, seed, shuffle, rank, num_ranks)
        self.num_images = num_images
        self.num_batches = self.order.num_batches

    def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
        permutation = self.order.permutation(index)
        for places in self.order.batches(first_batch):
            taken = permutation[places]
            yield Batch(torch.from_numpy(self.images[taken]), torch.from_numpy(self.labels[taken]), self.rows[taken])

    def table(self) -> pd.DataFrame:
        frame = pd.DataFrame({"row": self.rows, "image_id": [f"{row:08d}_000.png" for row in self.rows]})
        frame[list(FINDINGS)] = self.labels
        return frame
