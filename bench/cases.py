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

SYNC_BATCHES = 50
"""Batches after which a GPU is waited for, as a training loop does when it reads its losses."""
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
    """What all cases of a run share: the side of the output in pixels, where it must lie, workers or threads, and the
    images in a batch."""

    size: int
    device: torch.device
    num_workers: int
    batch_size: int

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
    repeated = repeat_fold(fold, EPOCH_IMAGES)
    open_image = open_originals([files[position] for position in _positions(fold, EPOCH_IMAGES).tolist()])
    reference, grey, _ = setting.specs()
    return [
        Case(family, "PIL DataLoader, originals", None, None, spec.channels, spec.dtype, stream)
        for family, spec in (("reference", reference), ("pil", grey))
        for stream in [_pil_stream(open_image, repeated, spec, setting)]
    ]


def shard_cases(fold: Fold, setting: Setting) -> list[Case]:
    """Return the loaders that read shards: Pillow in a torch DataLoader, and DALI."""
    repeated = repeat_fold(fold, EPOCH_IMAGES)
    order = EpochOrder(EPOCH_IMAGES, setting.batch_size)
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
    repeated = repeat_fold(fold, RESIDENT_IMAGES)
    order = EpochOrder(RESIDENT_IMAGES, setting.batch_size)

    def resident(spec: InputSpec) -> Stream:
        return _stream(lambda: ResidentLoader(repeated, spec, order, setting.device, setting.num_workers), setting)

    name = f"resident {setting.device.type}"
    return [_shard_case("ours", name, fold, spec, resident(spec)) for spec in setting.specs()]


def limit_cases(setting: Setting) -> list[Case]:
    """Return the copying of the output's bytes to where it must lie: no loader is faster.

    Within the device's memory, with all of its cores; on a GPU also from the host's pinned memory, the way of all
    loaders but the resident one.
    """
    sources = {"memory copy": setting.device}
    if setting.device.type == "cuda":
        sources |= {"copy from the host": torch.device("cpu")}
    return [
        Case("limit", name, None, setting.size, spec.channels, spec.dtype, _copy_stream(spec, source, setting))
        for name, source in sources.items()
        for spec in setting.specs()
    ]


def arrive(images: torch.Tensor, number: int, device: torch.device) -> int:
    """Bring a stream's batch to the device and return its number of images; wait for a GPU every SYNC_BATCHES.

    Args:
        images: (B, C, H, W).
        number: of the batch in its stream.
        device: where it must lie.
    """
    images.to(device)
    if device.type == "cuda" and number % SYNC_BATCHES == SYNC_BATCHES - 1:
        torch.cuda.synchronize(device)
    return len(images)


def _shard_case(family: str, loader: str, fold: Fold, spec: InputSpec, stream: Stream) -> Case:
    return Case(family, loader, fold.manifest.codec, fold.manifest.size, spec.channels, spec.dtype, stream)


def _pil_stream(open_image: OpenImage, fold: Fold, spec: InputSpec, setting: Setting) -> Stream:
    order = EpochOrder(len(fold), setting.batch_size)
    return _stream(
        lambda: PilLoader(open_image, fold.labels, fold.rows, spec, order, setting.num_workers),
        setting,
    )


def _stream(build: Callable[[], Loader], setting: Setting) -> Stream:
    """Return a stream that builds its loader anew, so that only what is measured holds threads and memory."""

    def stream(index: int) -> Iterator[int]:
        loader = build()
        for epoch in count(index * ROUND_EPOCHS):
            for number, batch in enumerate(loader.epoch(epoch)):
                yield arrive(batch.images, number, setting.device)

    return stream


def _copy_stream(spec: InputSpec, source_device: torch.device, setting: Setting) -> Stream:
    dtype = getattr(torch, spec.dtype)
    shape = (setting.batch_size, spec.size, spec.size, spec.channels)

    def stream(index: int) -> Iterator[int]:
        target = torch.empty(shape, dtype=dtype, device=setting.device)
        is_pinned = source_device != setting.device
        num_batches = max(2, LIMIT_BYTES // target.nbytes)
        source = torch.zeros((num_batches, *shape), dtype=dtype, device=source_device, pin_memory=is_pinned)
        for number in count():
            target.copy_(source[number % num_batches], non_blocking=True)
            yield arrive(target, number, setting.device)

    return stream


def repeat_fold(fold: Fold, num_images: int) -> Fold:
    """Return a fold of as many images, the given one's again and again."""
    return fold.take(_positions(fold, num_images))


def _positions(fold: Fold, num_images: int) -> np.ndarray:
    return np.arange(num_images) % len(fold)
