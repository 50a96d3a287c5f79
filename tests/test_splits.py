from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.datasets.nih import read_nih_labels
from shards.errors import UserError
from shards.findings import FOLDS
from shards.splits import assign_folds


def labels_of(patients: list[int]) -> pd.DataFrame:
    names = [f"{patient:08d}_{place:03d}.png" for place, patient in enumerate(patients)]
    return pd.DataFrame({"image_id": names, "patient_id": [str(patient) for patient in patients]})


@given(st.lists(st.integers(1, 60), min_size=1, max_size=200), st.integers(0, 2**32))
def test_patients_drawn_are_disjoint_complete_and_independent_of_order(patients: list[int], seed: int) -> None:
    labels = labels_of(patients)
    folds, source = assign_folds(labels, ["patient"], seed)
    assert set(folds) <= set(FOLDS)
    assert len(folds) == len(labels)
    assert folds.groupby(labels["patient_id"]).nunique().max() == 1
    backwards, _ = assign_folds(labels[::-1], ["patient"], seed)
    assert backwards.sort_index().equals(folds)
    assert source == {"method": "patient", "files": [], "seed": seed}


def test_patients_are_drawn_in_the_shared_splits_shares() -> None:
    labels = labels_of(list(range(1000)) * 2)
    folds, _ = assign_folds(labels, ["patient"], 0)
    assert folds.value_counts().to_dict() == {"train": 1400, "test": 400, "val": 200}
    other, _ = assign_folds(labels, ["patient"], 1)
    assert not other.equals(folds)


def test_three_patients_fill_three_folds() -> None:
    folds, _ = assign_folds(labels_of([1, 2, 3]), ["patient"], 0)
    assert set(folds) == set(FOLDS)


def test_a_fold_file_is_followed_and_described(tmp_path: Path) -> None:
    labels = labels_of([1, 2, 3])
    path = tmp_path / "split.csv"
    path.write_text(
        "Image Index,fold\n00000003_002.png,test\n00000002_001.png,val\n00000001_000.png,train\nx.png,val\n"
    )
    folds, source = assign_folds(labels, [str(path)], 0)
    assert list(folds) == ["train", "val", "test"]
    assert source["method"] == "fold file"
    assert source["files"][0]["file"] == "split.csv"
    assert len(source["files"][0]["sha256"]) == 64


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("00000001_000.png,train\n", "no fold for 2 of 3 labelled images .00000002_001.png, 00000003_002.png"),
        ("00000001_000.png,train\n00000002_001.png,dev\n00000003_002.png,test\n", "fold 'dev' of image 00000002_001"),
        ("00000001_000.png,train\n00000001_000.png,val\n", "00000001_000.png stands twice"),
    ],
)
def test_a_fold_file_with_gaps_or_other_folds_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "split.csv"
    path.write_text("Image Index,fold\n" + rows)
    with pytest.raises(UserError, match=message):
        assign_folds(labels_of([1, 2, 3]), [str(path)], 0)


def test_a_patient_in_two_folds_is_named(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("Image Index,fold\n00000007_000.png,train\n00000007_001.png,test\n")
    with pytest.raises(UserError, match=r"split.csv: 1 patient\(s\) stand in two folds \(7\)"):
        assign_folds(labels_of([7, 7]), [str(path)], 0)


def test_nihs_lists_work_in_either_order_and_val_is_an_eighth_of_patients(tmp_path: Path) -> None:
    labels = labels_of(list(range(100)))
    train_val, test = tmp_path / "train_val_list.txt", tmp_path / "test_list.txt"
    train_val.write_text("\n".join(labels["image_id"][:80]))
    test.write_text("\n".join(labels["image_id"][80:]))
    folds, source = assign_folds(labels, [str(train_val), str(test)], 3)
    assert folds.value_counts().to_dict() == {"train": 70, "test": 20, "val": 10}
    assert set(folds[80:]) == {"test"}
    swapped, _ = assign_folds(labels, [str(test), str(train_val)], 3)
    assert swapped.equals(folds)
    assert [file["file"] for file in source["files"]] == ["train_val_list.txt", "test_list.txt"]


def test_lists_that_cannot_be_told_apart_or_overlap_are_refused(tmp_path: Path) -> None:
    labels = labels_of([1, 2])
    a, train_val, test = (tmp_path / name for name in ("a.txt", "train_val_list.txt", "test_list.txt"))
    for path in (a, train_val, test):
        path.write_text("\n".join(labels["image_id"]))
    with pytest.raises(UserError, match="by these names"):
        assign_folds(labels, [str(a), str(train_val)], 0)
    with pytest.raises(UserError, match="00000001_000.png stands in both"):
        assign_folds(labels, [str(test), str(train_val)], 0)


def test_without_a_split_the_labels_own_folds_are_taken() -> None:
    labels = labels_of([1, 2]).assign(fold=["val", "test"])
    folds, source = assign_folds(labels, [], 0)
    assert list(folds) == ["val", "test"]
    assert source["method"] == "label table"
    with pytest.raises(UserError, match="no fold column"):
        assign_folds(labels_of([1, 2]), [], 0)


def test_a_word_that_is_no_file_is_refused() -> None:
    with pytest.raises(UserError, match="patients"):
        assign_folds(labels_of([1]), ["patients"], 0)
    with pytest.raises(UserError, match="not 3 files"):
        assign_folds(labels_of([1]), ["a", "b", "c"], 0)


@pytest.mark.real
def test_the_shared_split_has_the_published_counts(nih: Path) -> None:
    labels = read_nih_labels(nih / "Data_Entry_2017_v2020.csv.gz")
    folds, _ = assign_folds(labels, [str(nih / "reference_split.csv.gz")], 0)
    assert folds.value_counts().to_dict() == {"train": 78_468, "test": 22_433, "val": 11_219}
    patients = labels["patient_id"].groupby(folds).nunique()
    assert patients.to_dict() == {"train": 21_528, "test": 6_187, "val": 3_090}
