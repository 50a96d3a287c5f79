from pathlib import Path

import numpy as np
import pytest

from chexnet_fast.trainlog import read_train_log
from shards.errors import UserError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "log_train.csv"
    path.write_text(text)
    return path


def test_printed_tensors_read_as_their_numbers(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "epoch,train_loss,val_loss\n"
        "1,\"tensor(0.1623, device='cuda:0')\",tensor(0.1541)\n"
        "2,0.15,\"tensor(1.5e-01, device='cuda:0', grad_fn=<DivBackward0>)\"\n",
    )
    log = read_train_log(path)
    assert log["epoch"].tolist() == [1, 2]
    assert log["train_loss"].tolist() == [0.1623, 0.15]
    assert log["val_loss"].tolist() == [0.1541, 0.15]


def test_own_columns_keep_their_order_and_empty_fields_are_nan(tmp_path: Path) -> None:
    log = read_train_log(write(tmp_path, "epoch,train_loss,val_loss,val_auc,lr\n1,0.2,0.3,,0.01\n"))
    assert log.columns.tolist() == ["epoch", "train_loss", "val_loss", "val_auc", "lr"]
    assert log["epoch"].dtype == np.int64
    assert np.isnan(log["val_auc"][0])


@pytest.mark.real
def test_reads_the_reference_log(nih: Path) -> None:
    log = read_train_log(nih / "reference/log_train")
    assert len(log) == 9
    assert log.loc[log["val_loss"].idxmin(), ["epoch", "val_loss"]].tolist() == [6, 0.1452]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,train_loss\n1,0.2\n", "no column 'val_loss'"),
        ("epoch,train_loss,val_loss\n1,low,0.2\n", "column 'train_loss'.*low"),
        ("epoch,train_loss,val_loss\n1.5,0.2,0.2\n", "'epoch'"),
        ("epoch,train_loss,val_loss\n,0.2,0.2\n", "'epoch'"),
        ("", "cannot be read"),
    ],
)
def test_a_bad_log_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as error:
        read_train_log(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
