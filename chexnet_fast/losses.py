"""Binary cross-entropy over the known labels, the same for any number of ranks."""

import torch
from torch.nn import functional as F

from chexnet_fast import distributed


def bce_sum(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the binary cross-entropy over the known labels.

    Args:
        logits: (B, F) floating point; computed with as float32.
        labels: (B, F) float32: 1, 0 or NaN for unknown.

    Returns:
        The sum (float32 scalar; differentiable, exactly 0 with gradient 0 where nothing is known) and the number of
        known labels (float32 scalar), both on the logits' device.
    """
    known = ~labels.isnan()
    losses = F.binary_cross_entropy_with_logits(
        logits.float(), labels.nan_to_num(), weight=known.float(), reduction="sum"
    )
    return losses, known.sum().float()


def objective(loss_sum: torch.Tensor, num_known: torch.Tensor) -> torch.Tensor:
    """Return what a rank back-propagates: the mean over the known labels of the global batch.

    DistributedDataParallel averages the ranks' gradients. So each rank's sum is divided by the global count of known
    labels and multiplied by the number of ranks: the average is then the gradient of the global batch's mean, however
    the batch and its unknown labels are spread over the ranks.
    """
    global_known = distributed.sum_over_ranks(num_known).clamp(min=1)
    return loss_sum / global_known * distributed.num_ranks()
