from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shards.errors import UserError
from shards.table import REJECTED, make_study_table, read_table, write_table

FINDINGS = ("Edema", "Hernia")


def frame(**columns: list) -> pd.DataFrame:
    values = {
        "Hernia": [1, 0, 0],
        "age": [58, 61, 4],
        "image_id": ["a.png", "b.png", "c.png"],
        "path": ["/x/a.png", "/x/b.png", "/x/c.png"],
        "patient_id": ["1", "2", "02"],
        "fold": ["train", "val", "test"],
        "Edema": [0.0, float("nan"), 1.0],
    }
    return pd.DataFrame({**values, **columns})


def test_columns_stand_in_order_with_rows_counted() -> None:
    table = make_study_table(frame()[::-1], FINDINGS)
    assert list(table) == ["row", "image_id", "path", "patient_id", "fold", "age", "Edema", "Hernia"]
    assert list(table["row"]) == [0, 1, 2]
    assert list(table["image_id"]) == ["c.png", "b.png", "a.png"]
    assert table["row"].dtype == np.int32
    assert table["Edema"].dtype == table["Hernia"].dtype == np.float32


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = make_study_table(frame(), FINDINGS)
    write_table(table, tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0] == "row,image_id,path,patient_id,fold,age,Edema,Hernia"
    assert lines[2] == "1,b.png,/x/b.png,2,val,61,,0"
    pd.testing.assert_frame_equal(read_table(tmp_path / "table.csv", FINDINGS), table)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_id": ["a.png", "b.png", "a.png"]}, "a.png stands twice"),
        ({"fold": ["train", "dev", "test"]}, "fold 'dev'"),
        ({"patient_id": ["1", "2", "1"]}, r"two folds \(1\)"),
    ],
)
def test_what_a_table_may_not_hold_is_named(columns: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_study_table(frame(**columns), FINDINGS)


def test_a_rejected_row_is_in_no_fold() -> None:
    table = make_study_table(frame(patient_id=["1", "2", "1"], fold=["train", "val", REJECTED]), FINDINGS)
    assert list(table["row"]) == [0, 1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "row,image_id\n0,a.png\n",
        "row,image_id,path,patient_id,fold,Edema,Hernia\n1,a.png,/a.png,1,train,0,0\n",
        "row,image_id,path,patient_id,fold,Edema,Hernia\n0,a.png,/a.png,1,train,maybe,0\n",
    ],
)
def test_a_file_that_is_no_table_is_a_user_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(UserError, match="table.csv"):
        read_table(tmp_path / "table.csv", FINDINGS)
