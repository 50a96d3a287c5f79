"""The commands that measure. Heavy imports stay inside, so that --help answers at once."""

import os
from pathlib import Path
from typing import Literal


def loaders(
    images: Path,
    shards: Path,
    out: Path,
    workers: int = len(os.sched_getaffinity(0)),
    device: Literal["cuda", "cpu"] = "cpu",
) -> None:
    """Measure what the loaders reach beside the PIL reference, in one run.

    Example: chexnet-fast bench loaders --images nih/images --shards build/nih --out build/bench

    Args:
        images: the folder of the original images.
        shards: the same images packed.
        out: the folder for the tables.
        workers: worker processes of the reference, threads of DALI.
        device: where DALI works.
    """
    from bench.loaders import bench_loaders as measure_loaders
    from bench.loaders import format_rows

    print(format_rows(measure_loaders(images, shards, out, workers, device)))
