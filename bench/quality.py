"""Is it the same science? The mean test AUC on phantoms of each loader, recipe and arithmetic, over several seeds."""

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.rows import read_values, write_rows
from chexnet_fast.environment import describe_environment
from shards.errors import UserError
from shards.files import whole_file

DRAWN_SIZE = 256
PACKED_SIZE = 128
ENRICHMENT = 3.0
"""How many times as common as at NIH the findings are, so that a small data set holds every one."""
NUM_TEST = 3000
"""Further phantoms, of other patients, that every run is evaluated on: a test fold of hundreds holds two or three of
the rarest finding, whose AUC then moves the mean by more than what is looked for."""
PATIENCE = ("--lr-patience", "3", "--stop-patience", "6")
"""More than the recipes', which start from ImageNet's weights: from random ones the first validation losses jump."""
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "reference, PIL, float32": ("--recipe", "reference", "--loader", "pil", "--amp", "float32", *PATIENCE),
    "reference, DALI, float32": ("--recipe", "reference", "--loader", "dali", "--amp", "float32", *PATIENCE),
    "fast, DALI, float32": ("--recipe", "fast", "--loader", "dali", "--amp", "float32"),
    "fast, DALI, bfloat16": ("--recipe", "fast", "--loader", "dali", "--amp", "bfloat16"),
}


@dataclass(frozen=True)
class QualityRow:
    """A training on phantoms from random weights.

    Args:
        variant: recipe, loader and arithmetic.
        seed: of the first weights and the order.
        num_epochs: trained.
        mean_auc: over the findings, on the test set.
        seconds: that the train command took, start and validation included; trainings that ran beside it slowed it.
    """

    variant: str
    seed: int
    num_epochs: int
    mean_auc: float
    seconds: float


def bench_quality(
    out: Path,
    *,
    num_images: int,
    num_seeds: int,
    epochs: Mapping[str, int],
    device: str,
    num_jobs: int,
    variants: Sequence[str] = tuple(VARIANTS),
) -> list[QualityRow]:
    """Train variants with every seed on one set of phantoms, and evaluate them on another.

    Args:
        out: the folder for the phantoms, the runs, quality.jsonl and quality.md; new or empty.
        num_images: phantoms to train and validate on, and as many more for the test as NUM_TEST; split by patient.
        num_seeds: seeds 0, 1, ...
        epochs: the most epochs of each recipe, by its name.
        device: "cuda" or "cpu".
        num_jobs: trainings at the same time.
        variants: names of VARIANTS.

    Returns:
        One row per variant and seed.

    Raises:
        UserError: if a variant is unknown, or a command fails; its own message is on standard error.
    """
    for variant in variants:
        if variant not in VARIANTS:
            known = "; ".join(VARIANTS)
            raise UserError(f"--variants {variant!r}: give some of: {known}")
    _pack_phantoms(out, num_images)

    def train(variant: str, seed: int) -> QualityRow:
        run = out / f"{variant}, seed {seed}".replace(", ", "-").replace(" ", "-")
        options = VARIANTS[variant]
        recipe = options[options.index("--recipe") + 1]
        start = time.perf_counter()
        _command(
            "train",
            *(out / "shards", run, *options, "--epochs", epochs[recipe], "--seed", seed, "--device", device),
            *("--no-pretrained", "--size", PACKED_SIZE, "--num-threads", 1),
        )
        seconds = time.perf_counter() - start
        _command("evaluate", run, out / "test", "--out", run / "evaluation", "--device", device)
        mean_auc = float(pd.read_csv(run / "evaluation" / "aucs.csv")["auc"].mean())
        return QualityRow(variant, seed, len(pd.read_csv(run / "log_train.csv")), mean_auc, seconds)

    jobs = [(variant, seed) for seed in range(num_seeds) for variant in variants]
    environment = {**describe_environment(), "command": shlex.join(sys.argv), "num_images": num_images}
    rows: list[QualityRow] = []
    with ThreadPoolExecutor(num_jobs) as threads:
        for row in threads.map(lambda job: train(*job), jobs):
            rows.append(row)
            write_rows(rows, environment, out / "quality.jsonl")  # what is measured is kept, whatever comes
    with whole_file(out / "quality.md") as temporary:
        temporary.write_text(format_quality(rows), encoding="utf-8")
    return rows


def _pack_phantoms(out: Path, num_images: int) -> None:
    """Pack the first phantoms into the folder `shards`, and the patients after them as the test fold of `test`."""
    phantoms = out / "phantoms"
    labels = phantoms / "Data_Entry_2017_v2020.csv"
    _command("phantom", phantoms, "--images", num_images + NUM_TEST, "--size", DRAWN_SIZE, "--enrich", ENRICHMENT)
    table = pd.read_csv(labels, dtype=str)
    table[:num_images].to_csv(out / "first.csv", index=False)
    is_known = table["Patient ID"].isin(table["Patient ID"][:num_images])
    lists = (out / "train_val_list.txt", out / "test_list.txt")
    for path, images in zip(lists, (table["Image Index"][is_known], table["Image Index"][~is_known]), strict=True):
        path.write_text("\n".join(images) + "\n", encoding="utf-8")
    options = ("--dataset", "nih", "--images", phantoms / "images", "--size", PACKED_SIZE)
    first = ("--labels", out / "first.csv", "--allow-unlabelled", "--split", "patient")
    _command("pack", out / "shards", *options, *first)
    _command("pack", out / "test", *options, "--labels", labels, "--split", *lists)


def read_quality(path: Path) -> tuple[list[QualityRow], dict]:
    """Read quality.jsonl: the rows, and their environment."""
    values, environment = read_values(path)
    return [QualityRow(**value) for value in values], environment


def format_quality(rows: Sequence[QualityRow]) -> str:
    """Return a Markdown table with a line for each variant: the mean and spread of the AUC over the seeds, the time."""
    lines = [
        "| recipe, loader, arithmetic | seeds | epochs | mean AUC (lowest - highest) | seconds |",
        "|---|--:|--:|--:|--:|",
    ]
    for variant in dict.fromkeys(row.variant for row in rows):
        own = [row for row in rows if row.variant == variant]
        aucs = [row.mean_auc for row in own]
        epochs, seconds = (np.median([getattr(row, name) for row in own]) for name in ("num_epochs", "seconds"))
        spread = f"{np.mean(aucs):.4f} ({min(aucs):.4f} - {max(aucs):.4f})"
        lines.append(f"| {variant} | {len(own)} | {epochs:.0f} | {spread} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


def _command(*arguments: object) -> None:
    """Run a command of the project in a process of its own.

    Raises:
        UserError: if it fails.
    """
    line = [sys.executable, "-m", "chexnet_fast", *map(str, arguments)]
    done = subprocess.run(line, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise UserError(f"{shlex.join(line)} ended with status {done.returncode}: see its message above")
