"""What the loader benchmark measures: every rung of the ladder, as an endless stream of batches on the device."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch

from bench.measure import Stream
from pipelines.batch import Loader
from pipelines.dali import DaliLoader
from pipelines.order import EpochOrder
from pipelines.pil import OpenImage, PilLoader, open_originals
from pipelines.resident import ResidentLoader
from pipelines.spec import InputSpec
from shards.fold import Fold

BATCH_SIZE = 64
EPOCH_IMAGES = 400_000
"""Images in a measured epoch, the fold's repeated: so many that a CPU ends none within a round."""
RESIDENT_IMAGES = 16_384
"""Images that the resident loader holds, the fold's repeated: 256 batches, 0.8 GB at 224 pixels, past the caches."""
ROUND_EPOCHS = 1000
"""Epochs set aside for each round, so that no two rounds have the same order."""
LIMIT_BYTES = 1 << 29
"""Memory that the limit's copies are read from: more than the caches hold."""
OUTPUTS = ((3, "float32"), (1, "float32"), (1, "uint8"))
"""Channels and type of the batches; the reference's first."""


@dataclass(frozen=True)
class Setting:
    """What all cases of a run share: the side of the output in pixels, where it must lie, workers or threads."""

    size: int
    device: torch.device
    num_workers: int

    def specs(self) -> list[InputSpec]:
        """Return the training input of each of OUTPUTS."""
        return [InputSpec(self.size, channels, dtype, flip=0.5) for channels, dtype in OUTPUTS]


@dataclass(frozen=True)
class Case:
    """A loader to measure on one input, for one output.

    `family` is "reference", "pil" (between the reference and ours), "ours", "peer" or "limit". `codec` and `size` are
    the shards'; the codec is None where no shards are read, the size is None where images have their original one.
    """

    family: str
    loader: str
    codec: str | None
    size: int | None
    channels: int
    dtype: str
    stream: Stream


def originals_cases(files: Sequence[Path], fold: Fold, setting: Setting) -> list[Case]:
    """Return the reference, and the same loader on grey pixels."""
    repeated = _repeat(fold, EPOCH_IMAGES)
    open_image = open_originals([files[position] for position in _positions(fold, EPOCH_IMAGES).tolist()])
    reference, grey, _ = setting.specs()
    return [
        Case(family, "PIL DataLoader, originals", None, None, spec.channels, spec.dtype, stream)
        for family, spec in (("reference", reference), ("pil", grey))
        for stream in [_pil_stream(open_image, repeated, spec, setting)]
    ]


def shard_cases(fold: Fold, setting: Setting) -> list[Case]:
    """Return the loaders that read shards: Pillow in a torch DataLoader, and DALI."""
    repeated = _repeat(fold, EPOCH_IMAGES)
    order = EpochOrder(EPOCH_IMAGES, BATCH_SIZE)
    _, grey, _ = setting.specs()

    def dali(spec: InputSpec) -> Stream:
        return _stream(lambda: DaliLoader(repeated, spec, order, setting.device, setting.num_workers), setting)

    pil = _pil_stream(repeated.image, repeated, grey, setting)
    return [
        _shard_case("pil", "PIL DataLoader, shards", fold, grey, pil),
        *(_shard_case("ours", f"DALI {setting.device.type}", fold, spec, dali(spec)) for spec in setting.specs()),
    ]


def resident_cases(fold: Fold, setting: Setting) -> list[Case]:
    """Return the loader that holds the fold in the device's memory; what it reads first does not count."""
    repeated = _repeat(fold, RESIDENT_IMAGES)
    order = EpochOrder(RESIDENT_IMAGES, BATCH_SIZE)

    def resident(spec: InputSpec) -> Stream:
        return _stream(lambda: ResidentLoader(repeated, spec, order, setting.device, setting.num_workers), setting)

    name = f"resident {setting.device.type}"
    return [_shard_case("ours", name, fold, spec, resident(spec)) for spec in setting.specs()]


def limit_cases(setting: Setting) -> list[Case]:
    """Return the copying of the output's bytes within the device's memory, with all cores: no loader is faster."""
    return [
        Case("limit", "memory copy", None, setting.size, spec.channels, spec.dtype, _copy_stream(spec, setting.device))
        for spec in setting.specs()
    ]


def arrive(images: torch.Tensor, device: torch.device) -> int:
    """Bring a batch to the device, wait until it is there, and return its number of images."""
    images.to(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return len(images)


def _shard_case(family: str, loader: str, fold: Fold, spec: InputSpec, stream: Stream) -> Case:
    return Case(family, loader, fold.manifest.codec, fold.manifest.size, spec.channels, spec.dtype, stream)


def _pil_stream(open_image: OpenImage, fold: Fold, spec: InputSpec, setting: Setting) -> Stream:
    order = EpochOrder(len(fold), BATCH_SIZE)
    return _stream(
        lambda: PilLoader(open_image, fold.labels, fold.rows, spec, order, setting.num_workers),
        setting,
    )


def _stream(build: Callable[[], Loader], setting: Setting) -> Stream:
    """Return a stream that builds its loader anew, so that only what is measured holds threads and memory."""

    def stream(index: int) -> Iterator[int]:
        loader = build()
        for epoch in count(index * ROUND_EPOCHS):
            for batch in loader.epoch(epoch):
                yield arrive(batch.images, setting.device)

    return stream


def _copy_stream(spec: InputSpec, device: torch.device) -> Stream:
    dtype = getattr(torch, spec.dtype)
    shape = (BATCH_SIZE, spec.size, spec.size, spec.channels)

    def stream(index: int) -> Iterator[int]:
        target = torch.empty(shape, dtype=dtype, device=device)
        source = torch.zeros((max(2, LIMIT_BYTES // target.nbytes), *shape), dtype=dtype, device=device)
        for batch in count():
            target.copy_(source[batch % len(source)])
            yield arrive(target, device)

    return stream


def _repeat(fold: Fold, num_images: int) -> Fold:
    return fold.take(_positions(fold, num_images))


def _positions(fold: Fold, num_images: int) -> np.ndarray:
    return np.arange(num_images) % len(fold)
