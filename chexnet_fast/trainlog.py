"""log_train.csv, ours and reproduce-chexnet's."""

from pathlib import Path

import numpy as np
import pandas as pd

from shards.errors import UserError

LOSS_COLUMNS = ("epoch", "train_loss", "val_loss")
LOG_COLUMNS = (*LOSS_COLUMNS, "val_auc", "lr", "images_per_second", "data_wait")
"""The columns of our log_train.csv; reproduce-chexnet's has the first three."""

TENSOR = r"^tensor\(([^,)]+).*\)$"
"""How a number reads in reproduce-chexnet's log: ``tensor(0.1623, device='cuda:0')``."""


def read_train_log(path: Path) -> pd.DataFrame:
    """Read a training log, one row an epoch.

    Returns:
        The file's columns in its order, `epoch` as int64 and the others as float64; an empty field is NaN.

    Raises:
        UserError: if the file cannot be read as CSV, misses `epoch`, `train_loss` or `val_loss`, or holds a value
            that is neither a number nor a printed tensor.
    """
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as a training log ({reason}); give a log_train.csv") from error
    missing = [name for name in LOSS_COLUMNS if name not in text.columns]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}; give a log_train.csv")
    log = pd.DataFrame(index=text.index)
    for name in text.columns:
        plain = text[name].str.replace(TENSOR, r"\1", regex=True).replace("", "nan")
        try:
            log[name] = plain.astype(np.float64)
        except ValueError as error:
            raise UserError(f"{path}: column {name!r}: {error}; give a log_train.csv") from error
    if (log["epoch"] % 1 != 0).any():
        raise UserError(f"{path}: column 'epoch' holds a value that is no whole number; give a log_train.csv")
    return log.astype({"epoch": np.int64})
