"""Measure packing beside its two limits: decoding alone, and the speed of the disk."""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image
from tqdm import tqdm

from bench.measure import Rate, summarise
from bench.rows import read_values, write_rows
from chexnet_fast.environment import describe_environment
from shards.codec import decode_image, decode_with_pillow
from shards.datasets.registry import file_name
from shards.encoding import read_image
from shards.files import whole_file
from shards.pack import pack
from shards.plan import SHARD_IMAGES
from shards.sources import find_sources
from shards.workers import count, num_cores, run_tasks

NUM_ROUNDS = 3
SIZE = 224
DECODE_IMAGES = 32
"""Images of a decoding task: so few that all workers end together."""


@dataclass(frozen=True)
class PackRow:
    """A kind of work on `num_images` images by `num_workers` processes, its rate in images per second, and packing's
    share of that rate."""

    work: str
    num_images: int
    num_workers: int
    rate: Rate
    share: float


def bench_pack(images: Sequence[Path], out: Path, num_workers: int | None = None) -> list[PackRow]:
    """Measure packing of the image files below folders to raw shards of 224 pixels, in turns with its limits.

    These are decoding (the same reading and decoding in as many processes, without resizing and writing), the same with
    Pillow's decoder alone, and writing (as many bytes in files as large, flushed to the disk).

    Args:
        images: folders of image files; some thousands, so that starting and the last shards do not count.
        out: the folder for pack.jsonl and pack.md, on the disk to measure; what else is written there is removed.
        num_workers: processes; None for one a core.

    Returns:
        A row for packing and each limit.

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
    works: dict[str, Callable[[], object]] = {
        "pack": lambda: pack(
            shards, "nih", images, labels, ["patient"], SIZE, "raw", num_workers=num_workers, progress=False
        ),
        "decode only": lambda: _decode_all(decode_image, paths, num_workers),
        "decode only, with Pillow": lambda: _decode_all(decode_with_pillow, paths, num_workers),
        "write only": lambda: _write(out / "bytes", len(paths) * SIZE * SIZE),
    }
    rounds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(NUM_ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            rounds[name].append(len(paths) / (time.perf_counter() - start))
        shutil.rmtree(shards)
        shutil.rmtree(out / "bytes")
    labels.unlink()
    rates = {name: summarise(rates) for name, rates in rounds.items()}
    rows = [
        PackRow(name, len(paths), num_workers, rate, rates["pack"].median / rate.median) for name, rate in rates.items()
    ]
    write_rows(rows, {**describe_environment(), "command": shlex.join(sys.argv)}, out / "pack.jsonl")
    with whole_file(out / "pack.md") as temporary:
        temporary.write_text(format_pack(rows), encoding="utf-8")
    return rows


def read_pack(path: Path) -> tuple[list[PackRow], dict]:
    """Read pack.jsonl: the rows, and their environment."""
    values, environment = read_values(path)
    rates = [Rate(**value.pop("rate")) for value in values]
    return [PackRow(**value, rate=rate) for value, rate in zip(values, rates, strict=True)], environment


def format_pack(rows: Sequence[PackRow]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| work | img/s (95 % interval) | packing's share |", "|---|--:|--:|"]
    for row in rows:
        rate = f"{row.rate.median:,.0f} ({row.rate.low:,.0f} - {row.rate.high:,.0f})"
        lines.append(f"| {row.work} | {rate} | {row.share:.2f} |")
    return "\n".join(lines) + "\n"


def _decode_all(decode: Callable[[bytes], Image.Image], paths: Sequence[str], num_workers: int) -> None:
    tasks = [paths[start : start + DECODE_IMAGES] for start in range(0, len(paths), DECODE_IMAGES)]
    with closing(run_tasks(partial(_decode, decode), tasks, num_workers, tqdm(disable=True))) as results:
        for _ in results:
            continue


def _decode(decode: Callable[[bytes], Image.Image], paths: Iterable[str]) -> None:
    for path in paths:
        decode(read_image(path))
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
