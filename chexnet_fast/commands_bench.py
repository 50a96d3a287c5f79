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
    seconds: float = 3.0,
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
        seconds: the least time that each loader is timed for in each of five rounds.
    """
    from bench.loaders import bench_loaders
    from bench.rows import format_rows

    rows = bench_loaders(
        images, shards, out, num_workers=workers, device=device, size=size, peers=peers, seconds=seconds
    )
    print(format_rows(rows))


def training(
    shards: tuple[Path, ...],
    out: Path,
    recipe: Literal["reference", "reference-3", "fast", "official"] = "fast",
    batch_size: int | None = None,
    steps: Literal["recorded", "compiled", "eager"] = "recorded",
    device: Literal["cuda", "cpu"] = "cuda",
    workers: int = len(os.sched_getaffinity(0)),
    seconds: float = 3.0,
) -> None:
    """Measure training with each loader beside its ceiling, a plain loop and the reference's way, in one run.

    The images are repeated to the size of NIH's random split. Their originals must lie where they were packed from.

    Example: chexnet-fast bench training --shards build/nih build/nih-jpeg --out build/bench

    Args:
        shards: the same images packed at one size, in as many ways as are to be compared.
        out: the folder for the table, the chart and the page.
        recipe: how to train.
        batch_size: images per step; the recipe's if not given.
        steps: how a GPU runs our steps; compiled ones take minutes at first.
        device: where to train.
        workers: worker processes of DataLoaders, threads of DALI.
        seconds: the least time that each way is timed for in each of five rounds.
    """
    from dataclasses import replace

    from bench.training import bench_training
    from bench.training_report import format_training_rows
    from chexnet_fast.config import RECIPES

    config = replace(RECIPES[recipe](), steps=steps, device=device)
    config = replace(config, batch_size=batch_size or config.batch_size)
    print(format_training_rows(bench_training(shards, out, config, num_workers=workers, seconds=seconds)))


def jpeg(
    shards: Path, out: Path, size: int = 224, threads: tuple[int, ...] = (2, 4, 8, 16), seconds: float = 1.0
) -> None:
    """Measure how fast a GPU decodes packed JPEGs, by its JPEG engines' share of the work and the number of threads.

    Example: chexnet-fast bench jpeg --shards build/nih-jpeg --out build/bench

    Args:
        shards: a folder packed with --codec jpeg.
        out: the folder for the table.
        size: side of the batches' images in pixels.
        threads: numbers of DALI's CPU threads to try.
        seconds: the least time that each setting is timed for in each of five rounds.
    """
    from bench.jpeg import bench_jpeg, format_jpeg_rows

    print(format_jpeg_rows(bench_jpeg(shards, out, size, threads, seconds)))


def quality(
    out: Path,
    images: int = 2_000,
    seeds: int = 3,
    reference_epochs: int = 10,
    fast_epochs: int = 10,
    variants: tuple[str, ...] = (),
    device: Literal["cuda", "cpu"] = "cuda",
    jobs: int = 1,
) -> None:
    """Compare what recipes, loaders and arithmetics learn: the mean test AUC on phantoms, over several seeds.

    Example: chexnet-fast bench quality --out build/quality

    Args:
        out: the folder for the phantoms, the runs and the table.
        images: how many phantoms to train and validate on; the test has 3,000 more.
        seeds: how many trainings of each kind.
        reference_epochs: the most epochs of the reference recipe.
        fast_epochs: epochs of the fast recipe.
        variants: which lines of the table to make, such as "fast, DALI, float32"; all unless told.
        device: where to train.
        jobs: trainings at the same time.
    """
    from bench.quality import VARIANTS, bench_quality, format_quality

    rows = bench_quality(
        out,
        num_images=images,
        num_seeds=seeds,
        epochs={"reference": reference_epochs, "fast": fast_epochs},
        device=device,
        num_jobs=jobs,
        variants=variants or tuple(VARIANTS),
    )
    print(format_quality(rows))


def pack(images: tuple[Path, ...], out: Path, workers: int | None = None) -> None:
    """Measure packing beside its limits, decoding alone and the speed of the disk, in one run.

    Example: chexnet-fast bench pack --images nih/images --out build/bench-pack

    Args:
        images: folders of image files, some thousands.
        out: the folder for the rows and the table, on the disk to measure; what else is written there is removed.
        workers: processes; all cores if not given.
    """
    from bench.pack import bench_pack, format_pack

    print(format_pack(bench_pack(images, out, workers)))


def codecs(images: Path, out: Path) -> None:
    """Measure each codec at each size: bytes, difference to the reference's pixels, encoding and decoding time.

    Example: chexnet-fast bench codecs --images nih/images --out build/bench

    Args:
        images: a folder of image files, a hundred or more.
        out: the folder for the rows and the table.
    """
    from bench.codecs import bench_codecs, format_codecs

    print(format_codecs(bench_codecs(images, out)))
