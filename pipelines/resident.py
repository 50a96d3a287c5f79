"""Batches from memory that holds the whole fold: decoded once by DALI, then gathered, flipped and normalised.

The upper bound of loading, and the fastest way to train on data that fits. Every rank holds the whole fold, so that
each epoch is one permutation over all of it: 78,468 training images of 224 pixels take 3.9 GB.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from pipelines.batch import Batch
from pipelines.dali import DaliLoader
from pipelines.order import EpochOrder
from pipelines.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from shards.errors import UserError
from shards.fold import Fold

READ_BATCH = 64
CHUNK = 8
"""Images that the CPU flips and normalises at a time: 1.6 MB as float32, so that each step finds the last one's result
in the cache."""


class ResidentLoader:
    """Load a fold's batches from the memory of the device.

    The pixels are DaliLoader's to the bit as uint8, and to rounding as floating point. Batches are the caller's own
    memory.

    Args:
        fold: the packed fold, of any codec and size.
        spec: what is done to an image; its augmentation must be none but the flip.
        order: which images form which batch.
        device: where the fold lies, and the batches are made.
        num_threads: DALI's CPU threads while the fold is read.

    Raises:
        UserError: if the fold does not fit into the device's free memory, or the spec augments.
    """

    def __init__(self, fold: Fold, spec: InputSpec, order: EpochOrder, device: torch.device, num_threads: int):
        if spec.augment != "none":
            raise UserError(f"--augment {spec.augment}: the resident loader flips only; choose --loader dali")
        self.num_images = order.num_images
        self.num_batches = order.num_batches
        self._spec = spec
        self._order = order
        self._device = device
        self._rows = fold.rows
        self._labels = torch.from_numpy(fold.labels).to(device)
        self._dtype = getattr(torch, spec.dtype)
        self._mean = 255 * torch.tensor(IMAGENET_MEAN[: spec.channels], device=device)
        self._scale = 1 / (255 * torch.tensor(IMAGENET_STD[: spec.channels], device=device))
        _check_memory(fold, spec.size, device)
        self._pixels = _read_pixels(fold, spec.size, device, num_threads)

    def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch `index` from `first_batch` on; see `pipelines.batch.Loader`."""
        permutation = self._order.permutation(index)
        positions = torch.from_numpy(permutation).to(self._device)
        flips = torch.from_numpy(self._order.uniforms(index, 1)[:, 0] < self._spec.flip).to(self._device)
        for places in self._order.batches(first_batch):
            yield Batch(
                images=self._images(positions[places], flips[places]),
                labels=self._labels[positions[places]],
                rows=self._rows[permutation[places]],
            )

    def _images(self, positions: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
        """Return (B, C, H, W) images in channels_last memory."""
        size, channels = self._spec.size, self._spec.channels
        images = torch.empty((len(positions), size, size, channels), dtype=self._dtype, device=self._device)
        chunk = CHUNK if self._device.type == "cpu" else max(1, len(positions))
        for start in range(0, len(positions), chunk):
            part = slice(start, start + chunk)
            self._fill(images[part], positions[part], flips[part])
        return images.permute(0, 3, 1, 2)

    def _fill(self, images: torch.Tensor, positions: torch.Tensor, flips: torch.Tensor) -> None:
        """Gather, flip and normalise (B, H, W, C) images in place."""
        pixels = self._pixels.index_select(0, positions)
        flipped = flips.nonzero()[:, 0]
        pixels.index_copy_(0, flipped, pixels.index_select(0, flipped).flip(2))
        images.copy_(pixels[..., None])
        if self._dtype != torch.uint8:
            images.sub_(self._mean).mul_(self._scale)


def _check_memory(fold: Fold, size: int, device: torch.device) -> None:
    needed = len(fold) * size * size
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _available_memory()
    if needed > free:
        raise UserError(
            f"--loader resident: {len(fold):,} images of {size} x {size} pixels take {needed:,} bytes, "
            f"{device.type} memory has {free:,} free; choose --loader dali"
        )


def _available_memory() -> int:
    """Return the bytes that Linux can give to a process without swapping."""
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return 1024 * int(meminfo["MemAvailable"].split()[0])


def _read_pixels(fold: Fold, size: int, device: torch.device, num_threads: int) -> torch.Tensor:
    """Return the fold's (N, H, W) uint8 pixels in table order."""
    order = EpochOrder(len(fold), READ_BATCH, shuffle=False)
    pixels = torch.empty((len(fold), size, size), dtype=torch.uint8, device=device)
    batches = DaliLoader(fold, InputSpec(size), order, device, num_threads).epoch(0)
    for places, batch in zip(order.batches(), batches, strict=True):
        pixels[places] = batch.images[:, 0]
    return pixels
