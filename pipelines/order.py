"""Which image stands where in an epoch: pure arithmetic that every loader shares.

An epoch is one permutation of the fold, drawn from (seed, epoch). Global batch g is its g-th run of
`batch_size * num_ranks` images, and each rank takes a contiguous part of it. So every image comes exactly once, all
ranks see the same number of batches, and R ranks with batches of B hold the same global batches as one rank with R * B.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EpochOrder:
    """The order of `num_images` images in epochs of batches, for one rank of `num_ranks`.

    Args:
        num_images: images in the fold, over all ranks.
        batch_size: images in a full batch of one rank.
        seed: fixes, with the epoch's index, every permutation and draw.
        shuffle: permute each epoch; False keeps table order.
        rank: this process's rank, 0..num_ranks-1.
        num_ranks: processes that share the epoch.
    """

    num_images: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    rank: int = 0
    num_ranks: int = 1

    @property
    def num_batches(self) -> int:
        """Batches in an epoch, the same for every rank."""
        return -(-self.num_images // (self.batch_size * self.num_ranks))

    def permutation(self, epoch: int) -> np.ndarray:
        """Return (num_images,) int64: the fold position of the image at each place of the epoch."""
        if not self.shuffle:
            return np.arange(self.num_images)
        return self._generator(epoch, stream=0).permutation(self.num_images)

    def uniforms(self, epoch: int, num_draws: int) -> np.ndarray:
        """Return (num_images, num_draws) float64 in [0, 1): the random draws for the image at each place."""
        return self._generator(epoch, stream=1).random((self.num_images, num_draws))

    def places(self, batch: int) -> slice:
        """Return the places of the epoch that this rank's batch holds; empty if the others took them all.

        A short last global batch is shared out evenly: the ranks' sizes differ by at most one.
        """
        start = batch * self.batch_size * self.num_ranks
        size = min(self.batch_size * self.num_ranks, self.num_images - start)
        return slice(start + size * self.rank // self.num_ranks, start + size * (self.rank + 1) // self.num_ranks)

    def batches(self, first_batch: int = 0) -> Iterator[slice]:
        """Yield the places of this rank's batches, from `first_batch` to the epoch's last."""
        return (self.places(batch) for batch in range(first_batch, self.num_batches))

    def _generator(self, epoch: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, epoch, stream))))
