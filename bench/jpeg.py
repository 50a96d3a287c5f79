"""How fast a GPU decodes packed JPEGs, by its engines' share of the work and the number of CPU threads."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from bench.cases import EPOCH_IMAGES, arrive, repeat_fold
from bench.measure import Rate, Stream, measure_rates
from bench.rows import write_rows
from chexnet_fast.environment import describe_environment
from pipelines.dali import DaliLoader
from pipelines.order import EpochOrder
from pipelines.spec import InputSpec
from shards.errors import UserError
from shards.files import whole_file
from shards.fold import Fold, open_fold
from shards.manifest import read_manifest

LOADS = (0.0, 0.25, 0.5, 0.65, 0.8, 1.0)
NUM_ROUNDS = 5
BATCH_SIZE = 128


@dataclass(frozen=True)
class JpegRow:
    """The rate of one setting, in images per second: decoded, resized if need be, as grey bytes in torch's hands."""

    num_threads: int
    hw_decoder_load: float
    rate: Rate


def bench_jpeg(shards: Path, out: Path, size: int, threads: tuple[int, ...], seconds: float) -> list[JpegRow]:
    """Measure DALI's loader on JPEG shards for each share of the GPU's JPEG engines and number of threads.

    Args:
        shards: a folder packed with --codec jpeg.
        out: the folder for jpeg.jsonl and jpeg.md.
        size: side of the output in pixels.
        threads: numbers of DALI's CPU threads.
        seconds: the least time that a setting is timed for in each round.

    Raises:
        UserError: if the shards are no JPEGs, or there is no GPU.
    """
    manifest = read_manifest(shards)
    if manifest.codec != "jpeg":
        raise UserError(f"{shards}: packed as {manifest.codec}; give shards packed with --codec jpeg")
    if not torch.cuda.is_available():
        raise UserError("bench jpeg measures a GPU, and finds none")
    fold = repeat_fold(open_fold(shards, manifest, "train"), EPOCH_IMAGES)
    settings = [(num_threads, load) for num_threads in threads for load in LOADS]
    streams = {
        f"{num_threads} {load}": _stream(fold, InputSpec(size, flip=0.5), num_threads, load)
        for num_threads, load in settings
    }
    rates = measure_rates(streams, NUM_ROUNDS, seconds)
    rows = [JpegRow(*setting, rate) for setting, rate in zip(settings, rates.values(), strict=True)]
    environment = {**describe_environment(), "command": shlex.join(sys.argv), "packed_size": manifest.size}
    out.mkdir(parents=True, exist_ok=True)
    write_rows(rows, environment, out / "jpeg.jsonl")
    with whole_file(out / "jpeg.md") as temporary:
        temporary.write_text(format_jpeg_rows(rows), encoding="utf-8")
    return rows


def format_jpeg_rows(rows: list[JpegRow]) -> str:
    """Return a Markdown table: a line for each number of threads, a column for each share; images per second."""
    loads = list(dict.fromkeys(row.hw_decoder_load for row in rows))
    lines = [["threads", *(f"engines {load:.0%}" for load in loads)], ["--:"] * (1 + len(loads))]
    for num_threads in dict.fromkeys(row.num_threads for row in rows):
        own = [row for row in rows if row.num_threads == num_threads]
        lines.append([str(num_threads), *(f"{row.rate.median:,.0f}" for row in own)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _stream(fold: Fold, spec: InputSpec, num_threads: int, hw_decoder_load: float) -> Stream:
    def stream(index: int) -> Iterator[int]:
        device = torch.device("cuda")
        loader = DaliLoader(fold, spec, EpochOrder(len(fold), BATCH_SIZE), device, num_threads, hw_decoder_load)
        for epoch in count(index):
            for number, batch in enumerate(loader.epoch(epoch)):
                yield arrive(batch.images, number, device)

    return stream
