"""What every loader yields, and what every loader is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch


@dataclass(frozen=True)
class Batch:
    """A batch of images on the loader's device.

    `images` is (B, C, H, W) in channels_last memory, uint8 in 0..255 or normalised floating point, as the
    InputSpec says. `labels` is (B, F) float32: 1 positive, 0 negative, NaN unknown. `rows` is (B,) int32, on the CPU:
    each image's row in the study table. B may be smaller in an epoch's last batch, and 0 on some ranks.

    The images' memory belongs to the loader and is valid until the next batch is asked for: clone what must live
    longer.
    """

    images: torch.Tensor
    labels: torch.Tensor
    rows: np.ndarray

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; the way from the CPU to a GPU leads through pinned memory, and nobody waits."""
        if device.type == self.images.device.type:
            return self
        return Batch(to_device(self.images, device), to_device(self.labels, device), self.rows)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a CPU tensor on a device; the way to a GPU leads through pinned memory, so that the host need not wait."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


class Loader(Protocol):
    """A fold of a data set, as batches.

    `num_images` counts the whole fold, over all ranks. `num_batches` is the batches of one epoch, equal on all ranks.
    """

    num_images: int
    num_batches: int

    def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches `first_batch`, `first_batch + 1`, ... of epoch `index`.

        The batches depend on (seed, index) alone: not on earlier epochs, threads or workers.
        """
        ...
