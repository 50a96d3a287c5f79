"""Full batches faster than eagerly on a GPU: passes recorded as CUDA graphs, or compiled as well.

A training step of DenseNet-121 starts thousands of small kernels, which takes a host longer than a fast GPU needs to
run them. A CUDA graph starts all of a pass at once.
"""

import os
import shutil
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from chexnet_fast import distributed
from chexnet_fast.config import TrainConfig
from shards.errors import UserError

Pass = Callable[[torch.Tensor], torch.Tensor]
NUM_WARMUP = 3
"""Passes before one is recorded, in which cuDNN chooses its kernels; as in torch.cuda.make_graphed_callables."""


class ReplayedModel(nn.Module):
    """Run a model in a recorded or compiled way on full batches, and as it is on any other, such as an epoch's last.

    It is trained by any optimizer that changes the parameters in place. Logits are the caller's own memory.

    Args:
        model: on a GPU; takes (B, C, H, W) images and returns (B, F) logits.
        batch_size: images in a full batch.
        train_pass: runs full batches in training mode.
        eval_pass: runs full batches in evaluation mode, without gradients.
    """

    def __init__(self, model: nn.Module, batch_size: int, train_pass: Pass, eval_pass: Pass) -> None:
        super().__init__()
        self.model = model
        self._batch_size = batch_size
        self._passes = {True: train_pass, False: eval_pass}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the model's logits, (B, F)."""
        if len(images) != self._batch_size:
            return self.model(images)
        return self._passes[self.training](images).clone()  # the next batch's logits are written to the same memory


def fast_model(model: nn.Module, config: TrainConfig, device: torch.device, amp_dtype: torch.dtype) -> nn.Module:
    """Return what runs a rank's full batches in the way that a config says; where that is eager the model itself.

    Args:
        model: on `device`.
        config: the complete config; its size and this rank's share of its batch size are the full batch's shape.
        device: where to train.
        amp_dtype: arithmetic of the forward pass; float32 is without autocast.
    """
    if device.type == "cpu" or config.steps == "eager" or config.sync_batch_norm:
        return model
    batch_size = config.batch_size // distributed.num_ranks()
    if config.steps == "compiled":
        return compile_passes(model, batch_size)
    assert config.size is not None, "a complete config has a size"
    shape = (batch_size, 1, config.size, config.size)
    return record(model, torch.zeros(shape, dtype=torch.uint8, device=device), amp_dtype)


def record(model: nn.Module, sample: torch.Tensor, amp_dtype: torch.dtype) -> ReplayedModel:
    """Record a model's passes as CUDA graphs, which takes seconds; its state stays as it is.

    No other thread may use the GPU meanwhile.

    Args:
        model: on a GPU.
        sample: images of the shape and type of a full batch, on the GPU; they become the graphs' own.
        amp_dtype: arithmetic of the forward pass; float32 is without autocast.
    """
    buffers = [buffer.clone() for buffer in model.buffers()]
    with torch.autocast("cuda", amp_dtype, enabled=amp_dtype != torch.float32, cache_enabled=False):
        model.train()
        train_pass = cast(Pass, torch.cuda.make_graphed_callables(_Forward(model), (sample,), NUM_WARMUP))
        model.eval()
        eval_pass = _record_inference(model, sample)
    for buffer, before in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(before)  # batch norm took note of the sample
    return ReplayedModel(model, len(sample), train_pass, eval_pass)


def compile_passes(model: nn.Module, batch_size: int) -> ReplayedModel:
    """Let torch.compile fuse a model's kernels and record them; each mode takes minutes at its first full batch."""
    compiled = torch.compile(model.forward, mode="reduce-overhead", dynamic=False)
    return ReplayedModel(model, batch_size, compiled, compiled)


def check_compiler() -> None:
    """Make sure that there is a C compiler, which torch.compile builds its kernels' launchers with.

    Raises:
        UserError: if there is none.
    """
    if "CC" not in os.environ and not shutil.which("gcc") and not shutil.which("clang"):
        raise UserError("--steps compiled needs gcc or clang, and finds neither: install one, or give --steps recorded")


class _Forward(nn.Module):
    """Lend a model's forward pass to make_graphed_callables, which replaces the one of the module that it is given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)


def _record_inference(model: nn.Module, sample: torch.Tensor) -> Pass:
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.no_grad():
        with torch.cuda.stream(stream):
            for _ in range(NUM_WARMUP):
                model(sample)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            logits = model(sample)

    def replay(images: torch.Tensor) -> torch.Tensor:
        sample.copy_(images)
        graph.replay()
        return logits

    return replay
