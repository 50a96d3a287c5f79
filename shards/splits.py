"""Which fold an image belongs to: from a fold file, NIH's two lists, the label table, or drawn by patient."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shards.errors import UserError
from shards.findings import FOLDS
from shards.manifest import sha256_of
from shards.table import check_patients, check_unique, read_csv

BY_PATIENT = "patient"
TEST_SHARE = 0.2
VAL_SHARE = 0.1
"""The shares of patients that `patient` draws: those of the split that reproduce-chexnet uses (6,187 and 3,090 of
30,805 patients)."""


def assign_folds(labels: pd.DataFrame, split: Sequence[str], seed: int) -> tuple[pd.Series, dict[str, Any]]:
    """Give each image its fold, and say how for the manifest.

    The folds are disjoint by patient. What is drawn depends on the seed and the set of patients alone, not on the
    order of the rows or the number of images.

    Args:
        labels: `image_id`, `patient_id` and possibly `fold`, one row an image.
        split: one of
            `("patient",)`: 10 % of patients are drawn for val, 20 % for test, at least one each;
            one fold file: a CSV, also as .gz, with columns `Image Index` and `fold` (train, val or test);
            NIH's train_val_list.txt and test_list.txt, in either order: val is drawn by patient, 1/8 of train_val's;
            nothing: the labels' own `fold` column.
        seed: fixes what is drawn.

    Returns:
        (N,) text, train, val or test, with the labels' index; and the manifest's `split`.

    Raises:
        UserError: if a file cannot be read, leaves a labelled image without a fold, names another fold, or a patient
            stands in two folds; or if `split` is none of the above.
    """
    split = [str(part) for part in split]
    files = [Path(part) for part in split]
    if split == [BY_PATIENT]:
        folds = _draw(labels["patient_id"], {"test": TEST_SHARE, "val": VAL_SHARE}, seed)
        source: dict[str, Any] = {"method": "patient", "files": [], "seed": seed}
    elif len(files) == 0:
        folds = _own_folds(labels)
        source = {"method": "label table", "files": []}
    elif len(files) == 1:
        folds = _from_fold_file(labels, files[0])
        source = {"method": "fold file", "files": _described(files)}
    elif len(files) == 2:
        folds = _from_lists(labels, *_train_val_and_test(files), seed)
        source = {"method": "NIH lists", "files": _described(files), "seed": seed}
    else:
        raise UserError(f"--split takes a fold file, NIH's two lists, or the word {BY_PATIENT}, not {len(files)} files")
    _check_folds(labels, folds, ", ".join(split) or "the labels' fold column")
    return folds.rename("fold"), source


def _check_folds(labels: pd.DataFrame, folds: pd.Series, name: str) -> None:
    missing = labels["image_id"][folds.isna()]
    if len(missing):
        raise UserError(
            f"{name}: no fold for {len(missing):,} of {len(labels):,} labelled images "
            f"({', '.join(missing[:3])} ...): add them, or use --split {BY_PATIENT}"
        )
    unknown = ~folds.isin(FOLDS)
    if unknown.any():
        raise UserError(
            f"{name}: fold {folds[unknown].iloc[0]!r} of image {labels['image_id'][unknown].iloc[0]} "
            f"is none of {', '.join(FOLDS)}; correct it"
        )
    check_patients(labels["patient_id"], folds, name)


def _own_folds(labels: pd.DataFrame) -> pd.Series:
    if "fold" not in labels:
        raise UserError(f"the label table has no fold column: give --split a fold file, or the word {BY_PATIENT}")
    return labels["fold"]


def _from_fold_file(labels: pd.DataFrame, path: Path) -> pd.Series:
    table = read_csv(path)
    if not {"Image Index", "fold"} <= set(table.columns):
        raise UserError(f"{path}: a fold file has the columns 'Image Index' and 'fold', this one {list(table.columns)}")
    check_unique(path, table["Image Index"])
    return labels["image_id"].map(table.set_index("Image Index")["fold"])


def _from_lists(labels: pd.DataFrame, train_val: Path, test: Path, seed: int) -> pd.Series:
    in_train_val = labels["image_id"].isin(_names(train_val))
    in_test = labels["image_id"].isin(_names(test))
    both = labels["image_id"][in_train_val & in_test]
    if len(both):
        raise UserError(f"{both.iloc[0]} stands in both {train_val} and {test}: correct one of the lists")
    drawn = _draw(labels["patient_id"][in_train_val], {"val": VAL_SHARE / (1 - TEST_SHARE)}, seed)
    folds = pd.Series(pd.NA, index=labels.index, dtype=object)
    folds[in_train_val] = drawn
    folds[in_test] = "test"
    return folds


def _train_val_and_test(files: Sequence[Path]) -> tuple[Path, Path]:
    """Tell NIH's lists apart by name: `train_val_list.txt` and `test_list.txt`, or Kaggle's `test_list_NIH.txt`."""
    test_last = sorted(files, key=lambda path: path.name.startswith("test"))
    if [path.name.startswith("test") for path in test_last] != [False, True]:
        raise UserError(f"{files[0]} and {files[1]}: give NIH's train_val_list.txt and test_list.txt by these names")
    return test_last[0], test_last[1]


def _names(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable list of image names ({error}); give another file") from error


def _draw(patients: pd.Series, shares: dict[str, float], seed: int) -> pd.Series:
    """Draw a share of the patients, at least one, for each fold named; the others are train."""
    names = np.sort(patients.unique().astype(str))
    drawn = np.random.Generator(np.random.Philox(seed)).permutation(names)
    fold_of = dict.fromkeys(names, "train")
    start = 0
    for fold, share in shares.items():
        count = max(1, round(share * len(names)))
        fold_of.update(dict.fromkeys(drawn[start : start + count], fold))
        start += count
    return patients.map(fold_of)


def _described(files: Sequence[Path]) -> list[dict[str, str]]:
    return [{"file": path.name, "sha256": sha256_of(path)} for path in files]
