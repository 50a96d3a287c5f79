"""The whole way on phantom images: drawn, packed, verified, trained, evaluated, reported, on a CPU in minutes."""

import dataclasses
from pathlib import Path

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
ENRICHMENT = 3.0
"""How many times as common as at NIH the findings are, so that a few hundred test images hold every one."""


def demo_config(seed: int) -> TrainConfig:
    """Return the reference recipe, made to fit a few minutes on 2 cores: small images, few epochs, bfloat16."""
    return dataclasses.replace(
        reference(),
        epochs=14,
        batch_size=32,
        size=PACKED_SIZE,
        amp="bfloat16",
        device="cpu",
        seed=seed,
    )


def run_demo(out: Path, seed: int) -> Path:
    """Run the demo in the folder `out` and return its report's path.

    Raises:
        UserError: if `out` exists and is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty; give the demo another folder, or delete it")
    phantoms, shards, run, evaluation = (out / name for name in ("phantoms", "shards", "run", "evaluation"))
    step(f"{NUM_IMAGES:,} phantom X-rays in {phantoms}")
    write_phantoms(phantoms, NUM_IMAGES, DRAWN_SIZE, seed, ENRICHMENT)
    step(f"packing them into {shards}")
    pack(
        shards,
        "nih",
        [phantoms / "images"],
        phantoms / "Data_Entry_2017_v2020.csv",
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


def step(text: str) -> None:
    """Say what comes next."""
    print(f"demo: {text}", flush=True)
