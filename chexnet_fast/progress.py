"""Where a run stands."""

from dataclasses import dataclass, field
from typing import Any

from chexnet_fast.schedule import Plateau


@dataclass
class Progress:
    """The finished epochs, and how far the current one has come.

    `num_batches` of the current epoch are trained; `loss_sum` over `num_known` labels is their loss. `seconds` were
    spent on them, `wait_seconds` of these waiting for data. `log` holds a row per finished epoch.
    """

    plateau: Plateau
    num_batches: int = 0
    loss_sum: float = 0.0
    num_known: float = 0.0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 1."""
        return self.plateau.epoch + 1

    @property
    def train_loss(self) -> float:
        """The mean loss of the current epoch's known labels so far; 0 if there are none."""
        return self.loss_sum / max(self.num_known, 1)

    def log_row(self, num_images: int, val_loss: float, val_auc: float, lr: float) -> dict[str, float]:
        """Return the current epoch's row of log_train.csv, after training on all of its `num_images` images.

        `lr` is the learning rate of its last step.
        """
        return {
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            "val_loss": val_loss,
            "val_auc": val_auc,
            "lr": lr,
            "images_per_second": num_images / self.seconds,
            "data_wait": self.wait_seconds / self.seconds,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Progress":
        """Return what dataclasses.asdict made of a Progress."""
        return cls(**{**state, "plateau": Plateau(**state["plateau"])})
