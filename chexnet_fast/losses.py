"""Binary cross-entropy over the known labels, the same for any number of ranks."""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from chexnet_fast import distributed
from shards.errors import UserError


def balanced_weights(prevalence: Mapping[str, float | None]) -> torch.Tensor:
    """Return the class weights with which a finding's positives and its negatives weigh the same in all.

    As in CheXNet's paper (Rajpurkar et al., arXiv:1711.05225): of P positive and N negative labels, a positive one
    weighs N / (P + N), a negative one P / (P + N).

    Args:
        prevalence: each finding's P / (P + N) in the training fold, None where no label is known.

    Returns:
        (2, F) float32, the weights of negative labels, then those of positive ones.

    Raises:
        UserError: if no label of a finding is known; names it.
    """
    shares = []
    for finding, share in prevalence.items():
        if share is None:
            raise UserError(
                f"--class-weights balanced: no label of {finding} is known in the training fold; "
                "choose none, or another --uncertain or --blank"
            )
        shares.append((share, 1 - share))
    return torch.tensor(shares).T


def bce_sum(
    logits: torch.Tensor, labels: torch.Tensor, class_weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the binary cross-entropy over the known labels.

    Args:
        logits: (B, F) floating point; computed with as float32.
        labels: (B, F) float32: 1, 0 or NaN for unknown.
        class_weights: (2, F) float32, what negative and positive labels weigh; None if all weigh 1.

    Returns:
        The sum (float32 scalar; differentiable, exactly 0 with gradient 0 where nothing is known) and the number of
        known labels, each counted once whatever it weighs (float32 scalar), both on the logits' device.
    """
    known = ~labels.isnan()
    weight = known.float()
    if class_weights is not None:
        negative, positive = class_weights.to(logits.device)
        weight = weight * torch.where(labels == 1, positive, negative)
    losses = F.binary_cross_entropy_with_logits(logits.float(), labels.nan_to_num(), weight=weight, reduction="sum")
    return losses, known.sum().float()


def objective(loss_sum: torch.Tensor, num_known: torch.Tensor) -> torch.Tensor:
    """Return what a rank back-propagates: the mean over the known labels of the global batch.

    DistributedDataParallel averages the ranks' gradients. So each rank's sum is divided by the global count of known
    labels and multiplied by the number of ranks: the average is then the gradient of the global batch's mean, however
    the batch and its unknown labels are spread over the ranks.
    """
    global_known = distributed.sum_over_ranks(num_known).clamp(min=1)
    return loss_sum / global_known * distributed.num_ranks()
