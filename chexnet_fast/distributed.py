"""Several processes, one a GPU, as torchrun starts them; with one process every function here is the identity."""

import os
import signal
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from shards.errors import UserError

MAX_REASON = 160
"""Characters of a lost connection's error that are shown: gloo's and NCCL's begin with the fact and end in advice."""


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Join the ranks that torchrun started, if it did, and leave them at the end.

    Args:
        device: cuda (NCCL, one GPU a rank) or cpu (gloo).

    Yields:
        This rank's device.

    Raises:
        UserError: if `device` is cuda and this rank has no GPU, or another rank dies: one line instead of the traceback
            of whatever this one was doing. In the latter case SIGTERM is ignored from then on.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        num_gpus = torch.cuda.device_count()
        if local_rank >= num_gpus:
            raise UserError(
                f"--device cuda: rank {local_rank} of this machine finds {num_gpus} GPUs; "
                "use --device cpu, or start no more processes than GPUs"
            )
        torch.cuda.set_device(local_rank)
    own = torch.device(device, local_rank) if device == "cuda" else torch.device(device)
    if "WORLD_SIZE" not in os.environ:
        yield own
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield own
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):  # gloo's errors have no class
            raise
        # Torchrun stops the other ranks of one that died; this one must not go before its line is out.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reason = textwrap.shorten(str(error), MAX_REASON, placeholder=" ...")
        raise UserError(
            f"rank {rank()} lost another rank, whose own message or torchrun's says why ({reason}); "
            "start again, a training with --resume"
        ) from error
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Return this process's rank, 0 with one process."""
    return dist.get_rank() if dist.is_initialized() else 0


def num_ranks() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def num_local_ranks() -> int:
    """Return how many of the ranks share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of every rank's tensor, without gradient; equal on all ranks."""
    if not dist.is_initialized():
        return values.detach()
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def largest_over_ranks(number: int) -> int:
    """Return the largest of every rank's number, without waiting for any GPU."""
    if not dist.is_initialized():
        return number
    largest = torch.tensor(number)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest)


def gather(value: Any) -> list[Any]:
    """Return every rank's picklable value, by rank; the ranks trust each other."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * num_ranks()
    dist.all_gather_object(values, value)
    return values


def share_buffers(model: nn.Module) -> None:
    """Give every rank the first rank's batch-norm statistics, so that all ranks predict with one model."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model as it is trained: under DistributedDataParallel if there are several ranks.

    Batch norm normalises with each rank's own part of the batch, as usual, unless `synchronise_norms` has changed it:
    its statistics, and so the training, depend on the number of ranks; the loss of given logits does not.
    """
    if not dist.is_initialized():
        return model
    return nn.parallel.DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
