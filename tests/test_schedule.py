import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexnet_fast.config import fast, official, reference
from chexnet_fast.schedule import Plateau, step_lr


def reproduce_chexnet(losses: list[float], lr: float, num_epochs: int) -> list[tuple[int, float, int, float]]:
    """The decisions of reproduce-chexnet's train_model: per epoch (epoch, rate of it, best epoch, best loss)."""
    best_loss, best_epoch, history = 999999.0, -1, []
    for epoch in range(1, num_epochs + 1):
        loss = losses[epoch - 1]
        rate = lr
        if loss > best_loss:
            lr = lr / 10
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
        history.append((epoch, rate, best_epoch, best_loss))
        if epoch - best_epoch >= 3:
            break
    return history


@given(st.lists(st.floats(0.1, 1.0), min_size=20, max_size=20, unique=True))
def test_decides_as_reproduce_chexnet(losses: list[float]) -> None:
    config = dataclasses.replace(reference(), epochs=20)
    plateau, history = Plateau(config.lr), []
    while not plateau.finished:
        rate = plateau.lr
        plateau = plateau.after_epoch(losses[plateau.epoch], config)
        history.append((plateau.epoch, rate, plateau.best_epoch, plateau.best_loss))
    assert history == reproduce_chexnet(losses, 0.01, 20)


def test_equal_loss_neither_improves_nor_lowers_the_rate() -> None:
    # reproduce-chexnet lowers the rate where the loss is above the best, and not where it is the same.
    plateau = Plateau(0.01).after_epoch(0.5, reference()).after_epoch(0.5, reference())
    assert (plateau.lr, plateau.best_epoch, plateau.improved) == (0.01, 1, False)


def test_patience_counts_epochs_since_the_best() -> None:
    config = dataclasses.replace(reference(), lr_patience=2, stop_patience=5, lr_divisor=2.0)
    plateau, rates = Plateau(8.0).after_epoch(0.1, config), []
    while not plateau.finished:
        plateau = plateau.after_epoch(0.2, config)
        rates.append(plateau.lr)
    assert rates == [8.0, 4.0, 4.0, 2.0, 2.0]


def test_the_plateau_alone_gives_every_step_its_rate() -> None:
    assert {step_lr(reference(), Plateau(0.001, epoch=3), batch, 10) for batch in range(10)} == {0.001}


def test_warm_up_rises_linearly_to_the_rate() -> None:
    config = dataclasses.replace(reference(), lr=8.0, warmup_epochs=0.4)
    rates = [step_lr(config, Plateau(config.lr), batch, 10) for batch in range(6)]
    assert rates == [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]


@given(st.integers(1, 50), st.floats(0, 4))
def test_the_cosine_only_falls_after_the_warm_up(num_batches: int, warmup_epochs: float) -> None:
    config = dataclasses.replace(fast(), epochs=5, warmup_epochs=warmup_epochs)
    rates = [
        step_lr(config, Plateau(config.lr, step // num_batches), step % num_batches, num_batches)
        for step in range(5 * num_batches)
    ]
    falling = [rate for step, rate in enumerate(rates) if step >= warmup_epochs * num_batches]
    assert falling == sorted(falling, reverse=True)
    assert 0 < min(rates) <= max(rates) <= config.lr


def test_half_way_the_cosine_has_half_the_rate() -> None:
    config = dataclasses.replace(fast(), epochs=5, warmup_epochs=1.0, lr=8.0)
    assert step_lr(config, Plateau(config.lr, 3), 0, 10) == pytest.approx(4.0)
    assert step_lr(config, Plateau(config.lr, 4), 9, 10) < 0.02


def test_a_cosine_is_not_divided_by_worse_epochs() -> None:
    plateau = Plateau(official().lr).after_epoch(0.5, official()).after_epoch(0.6, official())
    assert (plateau.lr, plateau.finished) == (official().lr, False)
