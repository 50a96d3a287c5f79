"""A run's curves as they come: for TensorBoard, and for Weights & Biases where a project is named."""

import dataclasses
import secrets
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from chexnet_fast.config import TrainConfig
from chexnet_fast.rundir import RunDir
from shards.errors import UserError
from shards.files import whole_file


class Curves:
    """Write each epoch's row of log_train.csv to TensorBoard's files, and to the Weights & Biases run of this folder.

    Args:
        config: the run's; its `wandb` names the project.
        run: where TensorBoard's files lie, and the id that lets a resumed run go on in the same curves.
        epoch: the next epoch to be written; what a run that died wrote of it is replaced.

    Raises:
        UserError: if a project is named, and the package is missing or cannot start.
    """

    def __init__(self, config: TrainConfig, run: RunDir, epoch: int) -> None:
        self._tensorboard = SummaryWriter(run.tensorboard, purge_step=epoch)
        self._wandb = None if config.wandb is None else start_wandb(config.wandb, config, run)

    def add(self, row: Mapping[str, float]) -> None:
        """Add an epoch's row, at its `epoch`."""
        epoch = int(row["epoch"])
        for name, value in row.items():
            self._tensorboard.add_scalar(name, value, epoch)
        self._tensorboard.flush()
        if self._wandb is not None:
            self._wandb.log(dict(row), step=epoch)

    def close(self) -> None:
        """Write what is left, and end the curves well."""
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def start_wandb(project: str, config: TrainConfig, run: RunDir) -> Any:
    """Begin the Weights & Biases run of a run folder, or go on with it, and return it.

    Raises:
        UserError: if the package is missing or cannot start, as without a login.
    """
    wandb = import_wandb()
    if not run.wandb_id.exists():
        with whole_file(run.wandb_id) as temporary:
            temporary.write_text(secrets.token_hex(8), encoding="ascii")
    try:
        return wandb.init(
            project=project,
            id=run.wandb_id.read_text(encoding="ascii"),
            name=run.path.resolve().name,
            dir=run.path,
            config=dataclasses.asdict(config),
            resume="allow",
        )
    except wandb.Error as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"--wandb {project}: {reason}; run `wandb login`, set WANDB_MODE=offline, or leave it out"
        ) from error


def import_wandb() -> ModuleType:
    """Return the package wandb.

    Raises:
        UserError: if it cannot be imported.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f'--wandb: the package cannot be imported ({error}): pip install "chexnet-fast[wandb]", or leave it out'
        ) from error
    return wandb
