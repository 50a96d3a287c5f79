"""What each rank of tests/test_distributed.py runs: gradients of unequal batches, then a training of two epochs."""

import dataclasses
import os
import sys
from pathlib import Path

import torch
from memory_loader import FINDINGS, MemoryLoader
from torch import nn

from chexnet_fast import distributed
from chexnet_fast.config import reference
from chexnet_fast.losses import bce_sum, objective
from chexnet_fast.model import build_model
from chexnet_fast.rundir import RunDir
from chexnet_fast.trainer import train

NUM_TRAIN, NUM_VAL, BATCH = 17, 5, 8


def loaders(rank: int, num_ranks: int) -> tuple[MemoryLoader, MemoryLoader]:
    """17 images in batches of 8, and 5 in batches of 4: the last hold one image, and the first of two ranks none."""
    share = {"rank": rank, "num_ranks": num_ranks, "size": 64}
    return (
        MemoryLoader(NUM_TRAIN, BATCH // num_ranks, unknown=0.3, **share),
        MemoryLoader(NUM_VAL, 4 // num_ranks, seed=1, shuffle=False, first_row=NUM_TRAIN, **share),
    )


def linear_gradient(loader: MemoryLoader) -> torch.Tensor:
    """The gradient that a linear model has after the first and the last batch of an epoch."""
    torch.manual_seed(0)
    linear = nn.Linear(64 * 64, len(FINDINGS))
    model = distributed.wrap(linear, torch.device("cpu"))
    batches = list(loader.epoch(0))
    for batch in (batches[0], batches[-1]):
        logits = model(batch.images.flatten(1) / 255)
        objective(*bce_sum(logits, batch.labels)).backward()
    return linear.weight.grad


def main(out: Path) -> None:
    with distributed.process_group("cpu") as device:
        train_loader, val_loader = loaders(distributed.rank(), distributed.num_ranks())
        gradient = linear_gradient(train_loader)
        if distributed.rank() == 0:
            torch.save(gradient, out / "gradient.pt")
        torch.manual_seed(0)
        train(
            dataclasses.replace(reference(), epochs=2, batch_size=BATCH, amp="float32", device="cpu"),
            build_model(FINDINGS, pretrained=False),
            train_loader,
            val_loader,
            val_loader.table(),
            FINDINGS,
            RunDir(out),
            device,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    main(Path(sys.argv[1]))
