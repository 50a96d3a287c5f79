"""How many images per second each loader puts into torch's hands, beside the reference."""

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from bench.measure import Rate, Stream, measure_rates
from chexnet_fast.environment import describe_environment
from pipelines.batch import Loader
from pipelines.dali import DaliLoader
from pipelines.order import EpochOrder
from pipelines.pil import PilLoader
from pipelines.spec import InputSpec
from shards.errors import UserError
from shards.fold import Fold, open_fold
from shards.manifest import read_manifest

BATCH_SIZE = 64
EPOCH_IMAGES = 400_000
"""Images in a measured epoch, the fold's repeated: so many that none ends within a round."""
NUM_ROUNDS = 5
SECONDS = 3.0
"""The least time that a loader is timed for in a round."""
REFERENCE = "PIL DataLoader, originals"


@dataclass(frozen=True)
class Row:
    """One line of the loader report: a loader, what it yields, its rate, and the ratio to the reference's rate."""

    loader: str
    channels: int
    dtype: str
    rate: Rate
    ratio: float


def bench_loaders(images: Path, shards: Path, out: Path, num_workers: int, device: str) -> list[Row]:
    """Measure the PIL reference on originals, and DALI on the same images packed, in one run.

    Args:
        images: the folder of the original files.
        shards: the shard folder that holds the same images.
        out: where loaders.jsonl and loaders.md are written.
        num_workers: worker processes of the reference, threads of DALI.
        device: "cpu" or "cuda", for DALI.

    Returns:
        One row per loader and output; the reference first, with ratio 1.
    """
    fold = open_fold(shards, read_manifest(shards), "train")
    files = _originals(images, fold)
    positions = np.arange(EPOCH_IMAGES) % len(fold)
    fold, files = fold.take(positions), [files[position] for position in positions]
    order = EpochOrder(EPOCH_IMAGES, BATCH_SIZE)
    codec = f"{fold.manifest.codec} {fold.manifest.size or 'original'}"
    size = 224 if fold.manifest.size is None else fold.manifest.size
    reference_spec = InputSpec(size, channels=3, dtype="float32", flip=0.5)
    loaders: dict[tuple[str, InputSpec], Loader] = {
        (REFERENCE, reference_spec): PilLoader(files, fold.labels, fold.rows, reference_spec, order, num_workers)
    }
    for channels, dtype in [(3, "float32"), (1, "float32"), (1, "uint8")]:
        spec = InputSpec(size, channels, dtype, flip=0.5)
        name = f"DALI {device}, {codec} shards"
        loaders[name, spec] = DaliLoader(fold, spec, order, torch.device(device), num_workers)
    rates = measure_rates(
        {str(index): _stream(loader) for index, loader in enumerate(loaders.values())}, NUM_ROUNDS, SECONDS
    )
    reference_rate = rates["0"].median
    rows = [
        Row(name, spec.channels, spec.dtype, rate, rate.median / reference_rate)
        for (name, spec), rate in zip(loaders, rates.values(), strict=True)
    ]
    _write_rows(rows, out)
    return rows


def format_rows(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| loader | output | img/s (95 % interval) | ratio |", "|---|---|---|---|"]
    for row in rows:
        output = f"{'RGB' if row.channels == 3 else 'grey'} {row.dtype}"
        rate = f"{row.rate.median:,.0f} ({row.rate.low:,.0f} - {row.rate.high:,.0f})"
        lines.append(f"| {row.loader} | {output} | {rate} | {row.ratio:,.1f} |")
    return "\n".join(lines) + "\n"


def _stream(loader: Loader) -> Stream:
    return lambda index: (len(batch.rows) for batch in loader.epoch(index))


def _originals(images: Path, fold: Fold) -> list[Path]:
    files = [images / Path(path).name for path in fold.table["path"]]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: not there, but its image is in the shards; give the folder that was packed")
    return files


def _write_rows(rows: list[Row], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    environment = {**describe_environment(), "command": shlex.join(sys.argv)}
    lines = [json.dumps({**asdict(row), "environment": environment}) + "\n" for row in rows]
    (out / "loaders.jsonl").write_text("".join(lines), encoding="utf-8")
    (out / "loaders.md").write_text(format_rows(rows), encoding="utf-8")
