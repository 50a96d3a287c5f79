"""How many images per second each loader puts into torch's hands, beside the reference and the limit, in one run."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cases import Case, Setting, limit_cases, originals_cases, resident_cases, shard_cases
from bench.device import find_device
from bench.loader_report import write_loader_report
from bench.measure import Rate, measure_rates
from bench.peers import load_peers, peer_cases, peer_versions
from bench.rows import Row
from chexnet_fast.environment import describe_environment
from shards.errors import UserError
from shards.fold import Fold, open_fold
from shards.manifest import read_manifest

NUM_ROUNDS = 5
BATCH_SIZES = {"cpu": 64, "cuda": 128}
DEFAULT_SIZE = 224


def bench_loaders(
    images: Path,
    shards: Sequence[Path],
    out: Path,
    *,
    num_workers: int,
    device: str = "cpu",
    size: int | None = None,
    peers: bool = False,
    seconds: float = 3.0,
) -> list[Row]:
    """Measure the ladder: originals with Pillow, shards with Pillow, with DALI, resident, and a copy of memory.

    All cases have the same images and the same size of output, and are measured in turn, NUM_ROUNDS times; the files
    are read once before, so that they lie in the page cache.

    Args:
        images: the folder of the original files.
        shards: folders that hold the same training images, packed in different ways; the resident loader reads the
            first.
        out: the folder for loaders.jsonl, loaders.md, loaders.png and loaders.html.
        num_workers: worker processes of DataLoaders, threads of DALI.
        device: "cpu" or "cuda": where DALI works, and where every batch must arrive.
        size: side of the output in pixels; None takes the first shards' (224 if they have the original one).
        peers: measure other libraries' loaders too, on every shard folder that they can read the codec of.

        seconds: the least time that a loader is timed for in a round.

    Returns:
        One row per case; the reference first, with ratio 1. A peer that is not installed has a row that says so.

    Raises:
        UserError: if there is no such device, an original is missing, or the shard folders do not hold the same
            training images.
    """
    folds = [open_fold(folder, read_manifest(folder), "train") for folder in shards]
    _check_same_images(folds)
    files = _originals(images, folds[0])
    _warm_page_cache(files, folds)
    size = size or folds[0].manifest.size or DEFAULT_SIZE
    setting = Setting(size, find_device(device), num_workers, BATCH_SIZES[device])
    out.mkdir(parents=True, exist_ok=True)
    modules, absent = load_peers() if peers else ({}, [])
    with TemporaryDirectory(dir=out) as formats:
        cases = [
            *originals_cases(files, folds[0], setting),
            *(case for fold in folds for case in peer_cases(modules, fold, setting, Path(formats))),
            *(case for fold in folds for case in shard_cases(fold, setting)),
            *resident_cases(folds[0], setting),
            *limit_cases(setting),
        ]
        rates = _measure(cases, seconds)
    rows = [*_rows(cases, rates), *absent]
    environment = {**describe_environment(), "command": shlex.join(sys.argv)}
    environment["versions"] |= peer_versions(modules)
    write_loader_report(rows, environment, out)
    return rows


def _measure(cases: list[Case], seconds: float) -> list[Rate]:
    streams = {str(index): case.stream for index, case in enumerate(cases)}
    return list(measure_rates(streams, NUM_ROUNDS, seconds).values())


def _rows(cases: list[Case], rates: list[Rate]) -> list[Row]:
    limits = {
        (case.channels, case.dtype): rate.median
        for case, rate in zip(cases, rates, strict=True)
        if case.loader == "memory copy"
    }
    return [
        Row(
            family=case.family,
            loader=case.loader,
            codec=case.codec,
            size=case.size,
            channels=case.channels,
            dtype=case.dtype,
            rate=rate,
            ratio=rate.median / rates[0].median,
            share=rate.median / limits[case.channels, case.dtype],
        )
        for case, rate in zip(cases, rates, strict=True)
    ]


def _check_same_images(folds: list[Fold]) -> None:
    for fold in folds[1:]:
        if list(fold.table["image_id"]) != list(folds[0].table["image_id"]):
            raise UserError(
                f"{fold.folder}: not the training images of {folds[0].folder}; "
                "pack both with the same --split and --seed"
            )


def _originals(images: Path, fold: Fold) -> list[Path]:
    files = [images / Path(path).name for path in fold.table["path"]]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: not there, but its image is in the shards; give the folder that was packed")
    return files


def _warm_page_cache(files: list[Path], folds: list[Fold]) -> None:
    for file in files:
        file.read_bytes()
    for fold in folds:
        for shard in fold.manifest.fold_shards("train"):
            (fold.folder / shard.file).read_bytes()
