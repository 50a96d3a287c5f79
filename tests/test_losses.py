import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from chexnet_fast.losses import balanced_weights, bce_sum, objective
from shards.errors import UserError

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [0.0, 3.0, -2.0]])
LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])


def test_known_labels_give_the_mean_cross_entropy_of_the_probabilities() -> None:
    loss_sum, num_known = bce_sum(LOGITS, LABELS)
    expected = F.binary_cross_entropy(LOGITS.sigmoid(), LABELS)
    assert torch.allclose(objective(loss_sum, num_known), expected, rtol=1e-6)


def test_unknown_labels_have_neither_loss_nor_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    labels = LABELS.clone()
    labels[0, 1] = labels[1, 2] = torch.nan
    loss_sum, num_known = bce_sum(logits, labels)
    objective(loss_sum, num_known).backward()
    known = ~labels.isnan()
    assert num_known == 4
    assert torch.allclose(loss_sum, F.binary_cross_entropy_with_logits(LOGITS[known], labels[known], reduction="sum"))
    assert (logits.grad[~known] == 0).all() and (logits.grad[known] != 0).all()


def test_nothing_known_is_zero_with_zero_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = objective(*bce_sum(logits, torch.full_like(LABELS, torch.nan)))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


@given(st.integers(0, 6), st.integers(0, 10**6))
def test_parts_of_a_batch_sum_to_the_whole(cut: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.normal(size=(6, 3)).astype(np.float32))
    labels = torch.from_numpy(random.choice([0, 1, np.nan], (6, 3)).astype(np.float32))
    whole = bce_sum(logits, labels)
    parts = [bce_sum(logits[part], labels[part]) for part in (slice(cut), slice(cut, 6))]
    assert torch.allclose(whole[0], parts[0][0] + parts[1][0], rtol=1e-5)
    assert whole[1] == parts[0][1] + parts[1][1]


def test_balanced_weights_are_the_papers() -> None:
    # Of 4 known labels 1 is positive: N / (P + N) = 3/4 for it, P / (P + N) = 1/4 for each of the others.
    weights = balanced_weights({"Mass": 1 / 4, "Nodule": 0.0, "Hernia": 1 / 2})
    assert weights.tolist() == [[0.25, 0.0, 0.5], [0.75, 1.0, 0.5]]
    with pytest.raises(UserError, match="no label of Nodule is known"):
        balanced_weights({"Mass": 0.5, "Nodule": None})


def test_class_weights_weigh_the_loss_and_the_known_labels_divide_it() -> None:
    # Logits of 0 cost log 2 each, so that the sums show the weights alone.
    labels = torch.tensor([[1.0, 0.0], [0.0, torch.nan], [0.0, 1.0], [0.0, 1.0]])
    logits = torch.zeros(4, 2, requires_grad=True)
    loss_sum, num_known = bce_sum(logits, labels, balanced_weights({"Mass": 1 / 4, "Nodule": 2 / 3}))
    loss = objective(loss_sum, num_known)
    loss.backward()
    positives_and_negatives = (3 / 4 + 3 * 1 / 4) + (2 * 1 / 3 + 2 / 3)
    assert num_known == 7
    assert loss_sum.item() == pytest.approx(positives_and_negatives * math.log(2), rel=1e-6)
    assert loss.item() == pytest.approx(positives_and_negatives * math.log(2) / 7, rel=1e-6)
    # So a constant logit of 0 stays where it is: positives pull up as hard as negatives pull down.
    assert torch.allclose(logits.grad.sum(0), torch.zeros(2), atol=1e-7) and (logits.grad[1, 1] == 0)


def test_weights_of_one_are_no_weights() -> None:
    assert bce_sum(LOGITS, LABELS, torch.ones(2, 3)) == bce_sum(LOGITS, LABELS)
