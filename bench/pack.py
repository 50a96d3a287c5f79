"""Measure packing beside its two limits: decoding alone, and the speed of the disk."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from bench.measure import Rate, summarise
from shards.codec import decode_image
from shards.datasets.registry import file_name
from shards.encoding import read_image
from shards.pack import pack
from shards.plan import SHARD_IMAGES
from shards.sources import find_sources
from shards.workers import count, num_cores, run_tasks

NUM_ROUNDS = 3
SIZE = 224
DECODE_IMAGES = 32
"""Images of a decoding task: so few that all workers end together."""


@dataclass(frozen=True)
class PackRates:
    """Images per second of packing to raw 224, of decoding alone, and of writing what packing writes."""

    num_images: int
    num_workers: int
    packing: Rate
    decoding: Rate
    writing: Rate

    @property
    def share(self) -> float:
        """Packing's share of the decoding limit, 0 to 1."""
        return self.packing.median / self.decoding.median

    def __str__(self) -> str:
        lines = [f"{self.num_images:,} images, {self.num_workers} workers, {NUM_ROUNDS} rounds"]
        for name, rate in (("pack", self.packing), ("decode only", self.decoding), ("write only", self.writing)):
            lines.append(f"{name:12} {rate.median:9,.1f} img/s  ({rate.low:,.1f} to {rate.high:,.1f})")
        return "\n".join([*lines, f"packing reaches {self.share:.2f} of the decoding limit"])


def bench_pack(images: Sequence[Path], out: Path, num_workers: int | None = None) -> PackRates:
    """Measure packing of the image files below folders to raw shards of 224 pixels.

    Packing, decoding (the same reading and decoding in as many processes, without resizing and writing) and writing
    (as many bytes in files as large, flushed to the disk) are measured in turn, NUM_ROUNDS times.

    Args:
        images: folders of image files; a thousand or more, so that starting does not count.
        out: a folder for the shards, on the disk to measure; what is written there is removed.
        num_workers: processes; None for one a core.

    Raises:
        UserError: if no image is found, or one cannot be packed.
    """
    num_workers = num_workers or num_cores()
    paths = list(find_sources(images, file_name).files.values())
    out.mkdir(parents=True, exist_ok=True)
    labels = out / "labels.csv"
    names = [file_name(path) for path in paths]
    pd.DataFrame({"Image Index": names, "Patient ID": range(len(names)), "Finding Labels": "No Finding"}).to_csv(
        labels, index=False
    )
    shards = out / "shards"
    measures: dict[str, Callable[[], object]] = {
        "packing": lambda: pack(
            shards, "nih", images, labels, ["patient"], SIZE, "raw", num_workers=num_workers, progress=False
        ),
        "decoding": lambda: _decode_all(paths, num_workers),
        "writing": lambda: _write(out / "bytes", len(paths) * SIZE * SIZE),
    }
    rates: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(NUM_ROUNDS):
        for name, measure in measures.items():
            start = time.perf_counter()
            measure()
            rates[name].append(len(paths) / (time.perf_counter() - start))
        shutil.rmtree(shards)
        shutil.rmtree(out / "bytes")
    labels.unlink()
    return PackRates(len(paths), num_workers, **{name: summarise(values) for name, values in rates.items()})


def _decode_all(paths: Sequence[str], num_workers: int) -> None:
    tasks = [paths[start : start + DECODE_IMAGES] for start in range(0, len(paths), DECODE_IMAGES)]
    with closing(run_tasks(_decode, tasks, num_workers, tqdm(disable=True))) as results:
        for _ in results:
            continue


def _decode(paths: Iterable[str]) -> None:
    for path in paths:
        decode_image(read_image(path))
        count(1)


def _write(folder: Path, num_bytes: int) -> None:
    """Write random bytes in files of a full shard's size."""
    folder.mkdir()
    full = SHARD_IMAGES * SIZE * SIZE
    for number, start in enumerate(range(0, num_bytes, full)):
        with (folder / str(number)).open("wb") as file:
            file.write(os.urandom(min(full, num_bytes - start)))
            file.flush()
            os.fsync(file.fileno())
