"""The whole way on phantom images: drawn, packed, verified, trained, evaluated, reported, on a CPU in minutes."""

import dataclasses
from pathlib import Path

import numpy as np

from chexnet_fast.config import TrainConfig, reference
from chexnet_fast.evaluate import evaluate
from chexnet_fast.launch import run_training
from shards.datasets.phantom import write_phantoms
from shards.errors import UserError
from shards.pack import pack
from shards.verify import verify

NUM_IMAGES = 2_400
DRAWN_SIZE = 256
"""The phantoms' side in pixels; NIH's images have 1,024."""
PACKED_SIZE = 64
"""The side of the model's input in pixels, not 224: DenseNet-121 trains on 2 cores within minutes."""
FINDINGS_COLUMN = 1
"""Where NIH's label table holds an image's findings."""
ENRICHMENT = 3.0
"""How many times as common as at NIH the findings are, so that a few hundred test images hold every one."""


def demo_config(seed: int) -> TrainConfig:
    """Return the reference recipe, made to fit a few minutes on 2 cores: small images, few epochs, bfloat16.

    From random weights the first validation losses jump; the recipe's patience of one epoch, meant for ImageNet's,
    would lower the learning rate before anything is learned.
    """
    return dataclasses.replace(
        reference(),
        epochs=18,
        batch_size=32,
        lr_patience=3,
        stop_patience=6,
        size=PACKED_SIZE,
        amp="bfloat16",
        device="cpu",
        seed=seed,
    )


def run_demo(out: Path, seed: int, shuffle_labels: bool) -> Path:
    """Run the demo in the folder `out` and return its report's path.

    With `shuffle_labels` the images get each other's findings before they are packed: a model that still scores above
    0.5 would learn something that is not in the pictures.

    Raises:
        UserError: if `out` exists and is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty; give the demo another folder, or delete it")
    phantoms, shards, run, evaluation = (out / name for name in ("phantoms", "shards", "run", "evaluation"))
    step(f"{NUM_IMAGES:,} phantom X-rays in {phantoms}")
    write_phantoms(phantoms, NUM_IMAGES, DRAWN_SIZE, seed, ENRICHMENT)
    labels = phantoms / "Data_Entry_2017_v2020.csv"
    if shuffle_labels:
        step("shuffling their labels: AUCs must come out at 0.5")
        shuffle_findings(labels, seed)
    step(f"packing them into {shards}")
    pack(
        shards,
        "nih",
        [phantoms / "images"],
        labels,
        ("patient",),
        size=PACKED_SIZE,
        seed=seed,
    )
    verify(shards)
    step(f"training DenseNet-121 from random weights in {run}")
    run_training(demo_config(seed), shards, run, pretrained=False)
    step(f"evaluating it in {evaluation}")
    scores = evaluate(run, shards, evaluation, "test", "cpu", "dali", 64)
    print(scores)
    report = evaluation / "report.html"
    print(f"report: {report.resolve()}")
    return report


def shuffle_findings(labels: Path, seed: int) -> None:
    """Deal the findings of a label table in NIH's format out to its images anew."""
    header, *lines = labels.read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines]
    dealt = np.random.default_rng(seed).permutation(len(rows))
    for row, findings in zip(rows, [rows[index][FINDINGS_COLUMN] for index in dealt], strict=True):
        row[FINDINGS_COLUMN] = findings
    labels.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")


def step(text: str) -> None:
    """Say what comes next."""
    print(f"demo: {text}", flush=True)
