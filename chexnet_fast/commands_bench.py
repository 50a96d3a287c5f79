"""The commands that measure. Heavy imports stay inside, so that --help answers at once."""

import os
from pathlib import Path
from typing import Literal


def loaders(
    images: Path,
    shards: tuple[Path, ...],
    out: Path,
    workers: int = len(os.sched_getaffinity(0)),
    device: Literal["cuda", "cpu"] = "cpu",
    size: int | None = None,
    peers: bool = False,
) -> None:
    """Measure what the loaders reach beside the PIL reference and the speed of memory, in one run.

    Example: chexnet-fast bench loaders --images nih/images --shards build/nih build/nih-jpeg --out build/bench

    Args:
        images: the folder of the original images.
        shards: the same images packed, in as many ways as are to be compared.
        out: the folder for the table, the chart and the page.
        workers: worker processes of DataLoaders, threads of DALI.
        device: where DALI works, and where every batch must arrive.
        size: side of the batches' images in pixels; the first shards' if not given.
        peers: measure other libraries' loaders too, those of the extra "peers" that are installed.
    """
    from bench.loaders import bench_loaders
    from bench.rows import format_rows

    rows = bench_loaders(images, shards, out, num_workers=workers, device=device, size=size, peers=peers)
    print(format_rows(rows))


def pack(images: tuple[Path, ...], out: Path, workers: int | None = None) -> None:
    """Measure packing beside its limits, decoding alone and the speed of the disk, in one run.

    Example: chexnet-fast bench pack --images nih/images --out build/bench-pack

    Args:
        images: folders of image files, a thousand or more.
        out: a folder on the disk to measure; what is written there is removed.
        workers: processes; all cores if not given.
    """
    from bench.pack import bench_pack

    print(bench_pack(images, out, workers))


def codecs(images: Path, out: Path) -> None:
    """Measure each codec at each size: bytes, difference to the reference's pixels, encoding and decoding time.

    Example: chexnet-fast bench codecs --images nih/images --out build/bench

    Args:
        images: a folder of image files, a hundred or more.
        out: the folder for the rows and the table.
    """
    from bench.codecs import bench_codecs, format_codecs

    print(format_codecs(bench_codecs(images, out)))
