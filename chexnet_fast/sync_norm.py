"""Batch norm over the whole batch, wherever the ranks hold its images.

torch.nn.SyncBatchNorm is for GPUs alone; this one runs on gloo too, so that its promise is tested without a GPU.
"""

from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional as F

CHANNELS = (1, -1, 1, 1)
"""The shape in which a value a channel meets (B, C, H, W)."""


def synchronise_norms(model: nn.Module) -> None:
    """Make every batch norm of a model normalise with the statistics of all ranks' images.

    The weights, their names and their order stay. A rank may give a batch of no images, but none may leave one out.
    Does nothing for one process.
    """
    if not dist.is_initialized():
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BatchNormAct2d):
                setattr(parent, name, SyncNorm(child))


class SyncNorm(nn.Module):
    """Normalise with the statistics of all ranks' images while training, with the running ones otherwise.

    Args:
        norm: the batch norm to replace; its weights, statistics and activation are taken over.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor

    def __init__(self, norm: BatchNormAct2d) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        assert norm.momentum is not None, "the running statistics are exponential means"
        self.eps, self.momentum = norm.eps, norm.momentum
        self.act = norm.act

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images normalised, scaled and activated, (B, C, H, W)."""
        if not self.training:
            weights = (self.running_mean, self.running_var, self.weight, self.bias)
            return self.act(F.batch_norm(images, *weights, eps=self.eps))
        mean, var, count = global_statistics(images)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        return self.act(_Normalise.apply(images, self.weight, self.bias, mean, var, count, self.eps))


@torch.no_grad()
def global_statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return each channel's mean and variance over the pixels of all ranks' images, and how many those are.

    The variances and means of the ranks are combined as by Chan, Golub and LeVeque (1979), without the cancellation
    of sums of squares.

    Args:
        images: this rank's, (B, C, H, W); B may be 0 and differ from rank to rank.

    Returns:
        (C,), (C,) and (1,), float32, equal on all ranks.
    """
    own_count = images.new_full((1,), images.numel() // images.shape[1], dtype=torch.float32)
    if len(images) == 0:
        own = torch.cat([own_count, own_count.new_zeros(2 * images.shape[1])])
    else:
        var, mean = torch.var_mean(images.float(), (0, 2, 3), correction=0)
        own = torch.cat([own_count, mean, var])
    ranks = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(ranks, own)
    counts, means, variances = torch.stack(ranks).split([1, images.shape[1], images.shape[1]], dim=1)
    count = counts.sum(0)
    shares = counts / count
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0), count


class _Normalise(torch.autograd.Function):
    """Batch norm with given statistics, whose gradient knows that they hang on all ranks' images."""

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        mean: torch.Tensor,
        var: torch.Tensor,
        count: torch.Tensor,
        eps: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(images, weight, mean, (var + eps).rsqrt(), count)
        return F.batch_norm(images, mean, var, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, weight, mean, scale, count = ctx.saved_tensors
        grad = grads[0].float()
        normal = (images.float() - mean.view(CHANNELS)) * scale.view(CHANNELS)
        own = torch.stack([grad.sum((0, 2, 3)), (grad * normal).sum((0, 2, 3))])
        total = own.clone()
        dist.all_reduce(total)
        of_mean, of_var = (total / count).view(2, *CHANNELS)
        back = (weight * scale).view(CHANNELS) * (grad - of_mean - normal * of_var)
        return back.to(images.dtype), own[1], own[0], None, None, None, None
