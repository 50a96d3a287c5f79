"""What each rank of tests/test_distributed.py runs: a few gradients and steps, and a training of two epochs."""

import dataclasses
import os
import sys
from pathlib import Path

import torch
from memory_loader import FINDINGS, MemoryLoader
from torch import nn

from chexnet_fast import distributed
from chexnet_fast.config import reference
from chexnet_fast.interrupts import Interrupts
from chexnet_fast.losses import bce_sum, objective
from chexnet_fast.model import build_model
from chexnet_fast.rundir import RunDir
from chexnet_fast.trainer import Training, train

NUM_TRAIN, NUM_VAL, BATCH = 17, 5, 8
CONFIG = dataclasses.replace(reference(), epochs=2, batch_size=BATCH, amp="float32", device="cpu")
CPU = torch.device("cpu")


def loaders(rank: int, num_ranks: int) -> tuple[MemoryLoader, MemoryLoader]:
    """17 images in batches of 8, and 5 in batches of 4: the last hold one image, and all ranks but one none."""
    share = {"rank": rank, "num_ranks": num_ranks, "size": 64}
    return (
        MemoryLoader(NUM_TRAIN, BATCH // num_ranks, unknown=0.3, **share),
        MemoryLoader(NUM_VAL, 4 // num_ranks, seed=1, shuffle=False, first_row=NUM_TRAIN, **share),
    )


def linear_gradient(loader: MemoryLoader) -> torch.Tensor:
    """The gradient that a linear model has after the first and the last batch of an epoch."""
    torch.manual_seed(0)
    linear = nn.Linear(64 * 64, len(FINDINGS))
    model = distributed.wrap(linear, CPU)
    batches = list(loader.epoch(0))
    for batch in (batches[0], batches[-1]):
        logits = model(batch.images.flatten(1) / 255)
        objective(*bce_sum(logits, batch.labels)).backward()
    return linear.weight.grad


def step_losses(loader: MemoryLoader, run: Path, sync_batch_norm: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of the global batches of an epoch, and the model's state after the first."""
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, sync_batch_norm=sync_batch_norm)
    training = Training(config, build_model(FINDINGS, pretrained=False), FINDINGS, RunDir(run), CPU, Interrupts())
    training.restore()
    training.shared_model.train()
    losses, states = [], []
    for batch in loader.epoch(0):
        training.train_step(batch)
        states.append({name: value.clone() for name, value in training.model.state_dict().items()})
        loss_sum, num_known = distributed.sum_over_ranks(torch.stack(training.unsettled[-1][:2]))
        losses.append(float(loss_sum / num_known))
    return losses, states[0]


def main(out: Path) -> None:
    with distributed.process_group("cpu") as device:
        train_loader, val_loader = loaders(distributed.rank(), distributed.num_ranks())
        results = {
            "gradient": linear_gradient(train_loader),
            "own": step_losses(train_loader, out, sync_batch_norm=False),
            "synced": step_losses(train_loader, out, sync_batch_norm=True),
        }
        if distributed.rank() == 0:
            torch.save(results, out / "results.pt")
        torch.manual_seed(0)
        model = build_model(FINDINGS, pretrained=False)
        train(CONFIG, model, train_loader, val_loader, val_loader.table(), FINDINGS, RunDir(out), device)


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    main(Path(sys.argv[1]))
