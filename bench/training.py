"""How fast training is with each loader, beside its ceiling, a plain loop and the reference's way, in one run."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from tqdm import tqdm

from bench.cases import repeat_fold
from bench.device import find_device
from bench.gpu_watch import GpuWatch
from bench.limits import Limits, measure_limits
from bench.measure import Rate, summarise
from bench.steps import REFERENCE_BATCH, Case, OneBatch, Pace, our_case, plain_case, reference_case
from bench.training_report import TrainingRow, write_training_report
from chexnet_fast.config import TrainConfig
from chexnet_fast.environment import describe_environment
from chexnet_fast.interrupts import Interrupts
from chexnet_fast.model import build_model
from chexnet_fast.rundir import RunDir
from chexnet_fast.trainer import Training
from pipelines.build import original_files
from pipelines.dali import DaliLoader
from pipelines.order import EpochOrder
from pipelines.pil import PilLoader, open_originals
from pipelines.resident import ResidentLoader
from pipelines.spec import InputSpec
from shards.fold import Fold, open_fold
from shards.manifest import read_manifest

NUM_ROUNDS = 5
NUM_TRAIN, NUM_VAL = 78_468, 11_219
"""Images of reproduce-chexnet's training and validation folds of NIH, over which times are stated."""
OURS = ("ceiling", "ours")
"""Families of cases that share one model and its memory."""
SLOW_VAL = 1_024
"""Validation images of the loaders that decode originals with Pillow."""


def bench_training(
    shards: Sequence[Path],
    out: Path,
    config: TrainConfig,
    *,
    num_workers: int,
    seconds: float = 3.0,
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
) -> list[TrainingRow]:
    """Measure training on packed folds, whose images are repeated to the size of NIH's.

    Every case is warmed up once (ours compiles then), and all are measured in turn, NUM_ROUNDS times.

    Args:
        shards: folders that hold the same images, packed in different ways, of one size; the resident loader reads the
            first. The original files are read where they were packed from.
        out: the folder for training.jsonl, training.md, training.png and training.html.
        config: how ours trains; its device is where all train.
        num_workers: worker processes of DataLoaders, threads of DALI.
        seconds: the least time that a case is timed for in a round.
        num_train: images in a training epoch.
        num_val: images in a validation.

    Returns:
        One row per case, the reference first, and two for the limits.

    Raises:
        UserError: if there is no such device, an original is missing, or a shard folder cannot be read.
    """
    device = find_device(config.device)
    out.mkdir(parents=True, exist_ok=True)
    folds = [_repeated_folds(folder, num_train, num_val) for folder in shards]
    findings = folds[0][0].manifest.findings
    size = config.size or folds[0][0].manifest.size or 224
    with TemporaryDirectory(dir=out) as run, GpuWatch(device) as watch:
        free_before = _free_memory(device)
        training = _build_training(replace(config, size=size, checkpoint_minutes=1e9), findings, Path(run), device)
        limits = measure_limits(training.model, size, device, training.amp_dtype)
        own_memory = free_before - _free_memory(device)
        builders = _builders(folds, training, size, num_workers, num_train, num_val)
        cases = [_warmed_up(build, device) for build in tqdm(builders, "warm up")]
        rounds = tqdm(range(NUM_ROUNDS), "measure")
        measured = [_measure_round([case for case, _ in cases], seconds) for _ in rounds]
    paces, val_rates = (list(zip(*part, strict=True)) for part in zip(*measured, strict=True))
    rows = [
        _row(case, memory + (own_memory if case.family in OURS else 0), case_paces, rates, watch)
        for (case, memory), case_paces, rates in zip(cases, paces, val_rates, strict=True)
    ]
    rows = [*_with_ratios(rows), *_limit_rows(limits)]
    environment = {**describe_environment(), "command": shlex.join(sys.argv)}
    write_training_report(rows, environment, out)
    return rows


def _repeated_folds(folder: Path, num_train: int, num_val: int) -> tuple[Fold, Fold]:
    manifest = read_manifest(folder)
    train, val = (open_fold(folder, manifest, fold) for fold in ("train", "val"))
    return repeat_fold(train, num_train), repeat_fold(val, num_val)


def _build_training(config: TrainConfig, findings: Sequence[str], run: Path, device: torch.device) -> Training:
    torch.backends.cudnn.benchmark = True
    model = build_model(findings, pretrained=False)
    training = Training(config, model, findings, RunDir(run), device, Interrupts())
    training.restore()
    return training


def _builders(
    folds: Sequence[tuple[Fold, Fold]], training: Training, size: int, num_workers: int, num_train: int, num_val: int
) -> list[Callable[[], Case]]:
    """Return what builds each case, in the order of the table."""
    config, device = training.config, training.device
    num_findings = len(training.findings)

    def reference() -> Case:
        specs = (InputSpec(size, 3, "float32", config.flip), InputSpec(size, 3, "float32"))
        parts = (folds[0][0], repeat_fold(folds[0][1], min(num_val, SLOW_VAL)))
        train, val = (_pil(fold, spec, REFERENCE_BATCH, num_workers) for fold, spec in zip(parts, specs, strict=True))
        return reference_case(train, val, num_findings, device)

    def plain() -> Case:
        return plain_case(size, num_findings, config.batch_size, num_val, device, training.amp_dtype)

    def ours(name: str, reads: str, build: Callable, train: Fold, val: Fold) -> Callable[[], Case]:
        def case() -> Case:
            train_order = EpochOrder(len(train), config.batch_size)
            val_order = EpochOrder(len(val), config.batch_size, shuffle=False)
            train_loader = build(train, InputSpec(size, flip=config.flip), train_order)
            val_loader = build(val, InputSpec(size), val_order)
            return our_case(name, reads, training, train_loader, val_loader, np.sort(val.rows))

        return case

    def ceiling() -> Case:
        train, val = (OneBatch(num, config.batch_size, size, num_findings, device) for num in (num_train, num_val))
        return our_case("no loader: the ceiling", "one batch", training, train, val, np.arange(num_val, dtype=np.int32))

    def pil_shards(fold: Fold, spec: InputSpec, order: EpochOrder) -> PilLoader:
        return PilLoader(fold.image, fold.labels, fold.rows, spec, order, num_workers)

    def pil(fold: Fold, spec: InputSpec, order: EpochOrder) -> PilLoader:
        return PilLoader(open_originals(original_files(fold)), fold.labels, fold.rows, spec, order, num_workers)

    def resident(fold: Fold, spec: InputSpec, order: EpochOrder) -> ResidentLoader:
        return ResidentLoader(fold, spec, order, device, num_workers)

    def dali(fold: Fold, spec: InputSpec, order: EpochOrder) -> DaliLoader:
        return DaliLoader(fold, spec, order, device, num_workers)

    first_train, first_val = folds[0]
    return [
        reference,
        plain,
        ceiling,
        ours("PIL DataLoader", "files", pil, first_train, repeat_fold(first_val, min(num_val, SLOW_VAL))),
        ours("PIL DataLoader", _reads(first_train), pil_shards, first_train, first_val),
        *(ours(f"DALI {device.type}", _reads(train), dali, train, val) for train, val in folds),
        ours(f"resident {device.type}", _reads(first_train), resident, first_train, first_val),
    ]


def _pil(fold: Fold, spec: InputSpec, batch_size: int, num_workers: int) -> PilLoader:
    order = EpochOrder(len(fold), batch_size)
    return PilLoader(open_originals(original_files(fold)), fold.labels, fold.rows, spec, order, num_workers)


def _reads(fold: Fold) -> str:
    return f"{fold.manifest.codec} {fold.manifest.size or 'original'}"


def _warmed_up(build: Callable[[], Case], device: torch.device) -> tuple[Case, float]:
    """Return a case that has run once, and the bytes of the device's memory that it took."""
    before = _free_memory(device)
    case = build()
    case.train(0.0)
    case.validate()
    return case, before - _free_memory(device)


def _free_memory(device: torch.device) -> float:
    if device.type == "cpu":
        return 0.0
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0]


def _measure_round(cases: Sequence[Case], seconds: float) -> tuple[list[Pace], list[float]]:
    """Return each case's pace and its validation rate."""
    return [case.train(seconds) for case in cases], [case.validate() for case in cases]


def _row(case: Case, memory: float, paces: Sequence[Pace], val_rates: Sequence[float], watch: GpuWatch) -> TrainingRow:
    waits = [pace.data_wait for pace in paces if pace.data_wait is not None]
    busy = [share for pace in paces if (share := watch.busy_between(pace.start, pace.end)) is not None]
    train = summarise([pace.images_per_second for pace in paces])
    val = summarise(list(val_rates))
    return TrainingRow(
        family=case.family,
        name=case.name,
        reads=case.reads,
        batch_size=case.batch_size,
        arithmetic=case.arithmetic,
        train=train,
        val=val,
        epoch_seconds=NUM_TRAIN / train.median + NUM_VAL / val.median,
        data_wait=float(np.median(waits)) if waits else None,
        gpu_busy=float(np.median(busy)) if busy else None,
        gpu_memory=memory or None,
    )


def _with_ratios(rows: list[TrainingRow]) -> list[TrainingRow]:
    """Return rows with their ratio to the reference and their share of the ceiling."""
    reference = next(row.train.median for row in rows if row.family == "reference")
    ceiling = next(row.train.median for row in rows if row.family == "ceiling")
    return [replace(row, ratio=row.train.median / reference, share=row.train.median / ceiling) for row in rows]


def _limit_rows(limits: Limits) -> list[TrainingRow]:
    arithmetic = f"{limits.flops / 1e9:.1f} GFLOP an image at {limits.flops_per_second / 1e12:.1f} TFLOP/s"
    bandwidth = f"{limits.num_bytes / 1e6:.0f} MB an image at {limits.bytes_per_second / 1e9:,.0f} GB/s"
    return [
        TrainingRow(family="limit", name=f"limit: {name}", reads=reads, train=Rate(rate, rate, rate))
        for name, reads, rate in (
            ("arithmetic", arithmetic, limits.arithmetic),
            ("memory", bandwidth, limits.bandwidth),
        )
    ]
