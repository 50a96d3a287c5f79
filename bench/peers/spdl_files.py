"""Image files through SPDL: FFmpeg decodes whole batches, one in each thread, as its image example does."""

import random
from collections.abc import Iterator
from itertools import count

import spdl.io
import torch
from spdl.pipeline import PipelineBuilder

from bench.peers.source import Source, write_files
from pipelines.spec import IMAGENET_MEAN, IMAGENET_STD

prepare = write_files

try:
    spdl.io.demux_config()  # the first call loads FFmpeg
except RuntimeError as error:
    raise ImportError("SPDL finds no FFmpeg 4 to 9 libraries") from error


def stream(source: Source) -> Iterator[torch.Tensor]:
    """Yield batches of files in random order."""
    pipeline = (
        PipelineBuilder()
        .add_source(_names(source))
        .aggregate(source.batch_size)
        .pipe(_Decode(source), concurrency=source.num_workers)
        .add_sink(source.num_workers)
        .build(num_threads=source.num_workers, max_failures=0)
    )
    with pipeline.auto_stop():
        yield from pipeline


def _names(source: Source) -> Iterator[str]:
    files = [str(file) for file in source.files()]
    for epoch in count():
        random.Random(source.seed * 1_000_000 + epoch).shuffle(files)
        yield from files


class _Decode:
    """Decode, resize, flip and normalise a batch of files; FFmpeg and torch both release Python's lock."""

    def __init__(self, source: Source):
        self._spec = source.spec
        self._dtype = getattr(torch, source.spec.dtype)
        channels = source.spec.channels
        self._mean = 255 * torch.tensor(IMAGENET_MEAN[:channels]).view(-1, 1, 1)
        self._scale = 1 / (255 * torch.tensor(IMAGENET_STD[:channels]).view(-1, 1, 1))

    def __call__(self, names: list[str]) -> torch.Tensor:
        spec = self._spec
        pixel_format = "rgb24" if spec.channels == 3 else "gray"
        buffer = spdl.io.load_image_batch(names, width=spec.size, height=spec.size, pix_fmt=pixel_format)
        images = spdl.io.to_torch(buffer).view(len(names), spec.size, spec.size, spec.channels).permute(0, 3, 1, 2)
        flipped = torch.rand(len(names)) < spec.flip
        images[flipped] = images[flipped].flip(3)
        if self._dtype == torch.uint8:
            return images
        return images.to(self._dtype).sub_(self._mean).mul_(self._scale)
