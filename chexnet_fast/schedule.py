"""Which learning rate a step has and when training ends: pure functions of the config and the validation losses."""

import dataclasses
import math
from dataclasses import dataclass

from chexnet_fast.config import TrainConfig


@dataclass(frozen=True)
class Plateau:
    """What the validation losses of the epochs so far amount to.

    `lr` is the learning rate of the next epoch, before warm-up and cosine. `best_epoch` is the epoch, counted from 1,
    whose validation loss `best_loss` is the lowest so far; 0 before the first. `finished` says that training ends here.
    """

    lr: float
    epoch: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    finished: bool = False

    @property
    def improved(self) -> bool:
        """Whether the last epoch is the best so far."""
        return self.epoch == self.best_epoch

    def after_epoch(self, val_loss: float, config: TrainConfig) -> "Plateau":
        """Return the state after one more epoch.

        As reproduce-chexnet's `train_model` has it: an epoch whose loss is below the best becomes the best; the
        learning rate, under the plateau schedule, is divided after `lr_patience` epochs that were not (there: 1), and
        again after as many more, but not by an epoch whose loss equals the best; training ends after `stop_patience` of
        them (there: 3), or after `epochs`.
        """
        epoch = self.epoch + 1
        if val_loss < self.best_loss:
            return Plateau(self.lr, epoch, val_loss, epoch, finished=epoch >= config.epochs)
        num_worse = epoch - self.best_epoch
        is_due = val_loss > self.best_loss and num_worse % config.lr_patience == 0
        falls = config.schedule == "plateau" and is_due
        return dataclasses.replace(
            self,
            lr=self.lr / config.lr_divisor if falls else self.lr,
            epoch=epoch,
            finished=num_worse >= config.stop_patience or epoch >= config.epochs,
        )


def step_lr(config: TrainConfig, plateau: Plateau, batch: int, num_batches: int) -> float:
    """Return the learning rate of one step.

    Args:
        config: the complete config.
        plateau: after the epochs before this one.
        batch: the step within its epoch, from 0.
        num_batches: steps of an epoch.
    """
    step = plateau.epoch * num_batches + batch
    num_warmup_steps = config.warmup_epochs * num_batches
    if step < num_warmup_steps:
        return plateau.lr * min(1.0, (step + 1) / num_warmup_steps)
    if config.schedule == "plateau":
        return plateau.lr
    share = (step - num_warmup_steps) / (config.epochs * num_batches - num_warmup_steps)
    return plateau.lr * (1 + math.cos(math.pi * share)) / 2
