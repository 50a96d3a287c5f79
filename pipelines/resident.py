"""Batches from memory that holds the whole fold: decoded once by DALI, then gathered, flipped and normalised.

The upper bound of loading, and the fastest way to train on data that fits. Every rank holds the whole fold, so that
each epoch is one permutation over all of it: 78,468 training images of 224 pixels take 3.9 GB.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from pipelines.batch import Batch, to_device
from pipelines.dali import DaliLoader
from pipelines.order import EpochOrder
from pipelines.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from shards.errors import UserError
from shards.fold import Fold

READ_BATCH = 64
PART_IMAGES = 32
"""Images that a CPU thread makes at a time: so few that each step finds the last one's result in the cache, so many
that threads seldom wait for each other."""


class ResidentLoader:
    """Load a fold's batches from the memory of the device.

    The pixels are DaliLoader's to the bit as uint8, and to rounding as floating point.

    Args:
        fold: the packed fold, of any codec and size.
        spec: what is done to an image; its augmentation must be none but the flip.
        order: which images form which batch.
        device: where the fold lies, and the batches are made.
        num_threads: the CPU's threads, DALI's while the fold is read.

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
        self._labels = fold.labels
        self._dtype = getattr(torch, spec.dtype)
        self._mean = 255 * torch.tensor(IMAGENET_MEAN[: spec.channels], device=device)
        self._scale = 1 / (255 * torch.tensor(IMAGENET_STD[: spec.channels], device=device))
        if device.type == "cpu":
            self._threads = ThreadPoolExecutor(num_threads)
            self._grey = np.empty((order.batch_size, spec.size, spec.size), np.uint8)
            self._floats = np.empty((*self._grey.shape, spec.channels), np.float32)
            # One number, or whole images of three: numpy has no fast way for three numbers again and again.
            repeats = (1, 1, 1) if spec.channels == 1 else (spec.size, spec.size, 1)
            self._means, self._scales = (np.tile(values.numpy(), repeats) for values in (self._mean, self._scale))
        _check_memory(fold, spec.size, device)
        self._pixels = _read_pixels(fold, spec.size, device, num_threads)

    def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch `index` from `first_batch` on; see `pipelines.batch.Loader`."""
        permutation = self._order.permutation(index)
        flips = self._order.uniforms(index, 1)[:, 0] < self._spec.flip
        for places in self._order.batches(first_batch):
            positions = permutation[places]
            yield Batch(
                images=self._images(positions, flips[places]).permute(0, 3, 1, 2),
                labels=to_device(torch.from_numpy(self._labels[positions]), self._device),
                rows=self._rows[positions],
            )

    def _images(self, positions: np.ndarray, flips: np.ndarray) -> torch.Tensor:
        """Return (B, H, W, C) images: gathered, flipped and normalised."""
        return (self._on_gpu if self._device.type == "cuda" else self._on_cpu)(positions, flips)

    def _on_gpu(self, positions: np.ndarray, flips: np.ndarray) -> torch.Tensor:
        """Make images of the whole batch at a time, without making the host wait for the GPU."""
        pixels = self._pixels[to_device(torch.from_numpy(positions), self._device)]
        is_flipped = to_device(torch.from_numpy(flips), self._device)[:, None, None]
        pixels = torch.where(is_flipped, pixels.flip(2), pixels)[..., None]
        if self._dtype == torch.uint8:
            return pixels.repeat(1, 1, 1, self._spec.channels)
        return ((pixels - self._mean) * self._scale).to(self._dtype)

    def _on_cpu(self, positions: np.ndarray, flips: np.ndarray) -> torch.Tensor:
        """Make PART_IMAGES at a time in each thread, the first of them in this one: waking a thread takes time.

        All batches lie in the same memory: pages fresh from the system cost more than filling them.
        """
        num_images, is_float = len(positions), self._dtype.is_floating_point
        grey, floats = self._grey[:num_images], self._floats[:num_images]

        def fill(start: int) -> None:
            part = slice(start, start + PART_IMAGES)
            gather(self._pixels.numpy(), positions[part], flips[part], into=grey[part])
            if is_float:
                for channel in range(self._spec.channels):
                    floats[part, ..., channel] = grey[part]
                floats[part] -= self._means
                floats[part] *= self._scales

        others = [self._threads.submit(fill, start) for start in range(PART_IMAGES, num_images, PART_IMAGES)]
        fill(0)
        for other in others:
            other.result()
        if is_float:
            return torch.from_numpy(floats).to(self._dtype)
        return torch.from_numpy(grey)[..., None].expand(-1, -1, -1, self._spec.channels).contiguous()


def gather(pixels: np.ndarray, positions: np.ndarray, flips: np.ndarray, into: np.ndarray) -> None:
    """Copy images of (N, H, W) uint8 pixels into (B, H, W), each row from right to left where they are flipped.

    Words read as big-endian and written as little-endian turn their own bytes around, 8 pixels at a time: numpy needs a
    third of the time that it takes to read byte by byte.
    """
    np.take(pixels, positions, axis=0, out=into, mode="clip")  # the other modes make a copy first
    words = into.view(f"<u{math.gcd(into.shape[2], 8)}")
    flipped = np.flatnonzero(flips)
    words[flipped] = words[flipped].view(words.dtype.newbyteorder(">"))[..., ::-1]


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
