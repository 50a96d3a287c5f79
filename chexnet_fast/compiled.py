"""The model compiled for a GPU: fused kernels, replayed as CUDA graphs."""

import os
import shutil

import torch
from torch import nn

from shards.errors import UserError


class CompiledModel(nn.Module):
    """Run a model's compiled form on full batches, and the model itself on any other, such as an epoch's last.

    A training step of DenseNet-121 starts thousands of small kernels, which takes a host longer than a fast GPU needs
    to run them. Compiled they are fewer, and those of a forward or backward pass are started as one CUDA graph. Each
    mode, training and evaluation, is compiled at its first full batch, which takes minutes.

    Args:
        model: on a GPU; takes (B, ...) images and returns (B, F) logits.
        batch_size: images in a full batch.
    """

    def __init__(self, model: nn.Module, batch_size: int) -> None:
        super().__init__()
        self.model = model
        self._batch_size = batch_size
        self._compiled = torch.compile(model.forward, mode="reduce-overhead", dynamic=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the model's logits, (B, F)."""
        if len(images) != self._batch_size:
            return self.model(images)
        return self._compiled(images).clone()  # the graph writes the next batch's logits to the same memory


def check_compiler() -> None:
    """Make sure that there is a C compiler, which torch.compile builds its kernels' launchers with.

    Raises:
        UserError: if there is none.
    """
    if "CC" not in os.environ and not shutil.which("gcc") and not shutil.which("clang"):
        raise UserError("--compile needs gcc or clang, and finds neither: install one, or give --no-compile")
