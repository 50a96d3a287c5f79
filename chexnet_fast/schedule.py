"""When the learning rate falls and when training ends: a pure function of the validation losses."""

import dataclasses
import math
from dataclasses import dataclass

from chexnet_fast.config import TrainConfig


@dataclass(frozen=True)
class Plateau:
    """What the validation losses of the epochs so far amount to.

    `lr` is the learning rate of the next epoch. `best_epoch` is the epoch, counted from 1, whose validation loss
    `best_loss` is the lowest so far; 0 before the first. `finished` says that training ends here.
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
        learning rate is divided after `lr_patience` epochs that were not (there: 1), and again after as many more, but
        not by an epoch whose loss equals the best; training ends after `stop_patience` of them (there: 3), or after
        `epochs`.
        """
        epoch = self.epoch + 1
        if val_loss < self.best_loss:
            return Plateau(self.lr, epoch, val_loss, epoch, finished=epoch >= config.epochs)
        num_worse = epoch - self.best_epoch
        falls = val_loss > self.best_loss and num_worse % config.lr_patience == 0
        return dataclasses.replace(
            self,
            lr=self.lr / config.lr_divisor if falls else self.lr,
            epoch=epoch,
            finished=num_worse >= config.stop_patience or epoch >= config.epochs,
        )
