"""ChestX-ray14 as NIH and others publish it: label tables and boxes (Wang et al., CVPR 2017)."""

from pathlib import Path

import numpy as np
import pandas as pd

from shards.errors import UserError
from shards.findings import NIH_FINDINGS
from shards.table import check_unique, read_csv

NO_FINDING = "No Finding"
SPELLINGS = {"Infiltrate": "Infiltration"}
"""BBox_List_2017.csv's names that differ from the label tables'."""

METADATA = {
    "Follow-up #": "follow_up",
    "Patient Age": "age",
    "Patient Gender": "sex",
    "Patient Sex": "sex",
    "View Position": "view",
    "fold": "fold",
}
UNITS_PER_YEAR = {"Y": 1, "M": 12, "D": 365}
"""The 2017 table writes ages as `058Y`, and those of infants as `011M` or `003D`."""


def read_nih_labels(path: Path) -> pd.DataFrame:
    """Read a label table of ChestX-ray14: one row an image, in the file's order.

    Knows Data_Entry_2017.csv and Data_Entry_2017_v2020.csv, a table of `Image Index` and `Finding Labels` alone (the
    patient is then the number before the underscore of the image's name), and reproduce-chexnet's nih_labels.csv (one
    0/1 column per finding, and a fold); each also as .gz.

    Returns:
        `image_id`, `patient_id` (text); `follow_up`, `age` (whole years, int), `sex`, `view`, `fold` where the file has
        them; then one float32 column per finding of NIH_FINDINGS, 1 or 0.

    Raises:
        UserError: if the file cannot be read, lacks a column, names an unknown finding (the message says the finding
            and the image), lists an image twice, or holds an age, a number or a 0/1 value that is none.
    """
    raw = read_csv(path)
    raw.columns = raw.columns.str.strip()
    if "Image Index" not in raw:
        raise UserError(
            f"{path}: no column 'Image Index' (found: {', '.join(raw.columns[:5])}); give NIH's label table"
        )
    images = raw["Image Index"]
    labels = pd.DataFrame({"image_id": images, "patient_id": _patients(path, raw)})
    for column, name in METADATA.items():
        if column in raw:
            labels[name] = raw[column]
    if "age" in labels:
        labels["age"] = _years(path, labels["age"], images)
    if "follow_up" in labels:
        labels["follow_up"] = _numbers(path, labels["follow_up"], images)
    findings = _from_names(path, raw) if "Finding Labels" in raw else _from_columns(path, raw)
    check_unique(path, images)
    return pd.concat([labels, pd.DataFrame(findings, columns=NIH_FINDINGS)], axis=1)


def read_boxes(path: Path) -> pd.DataFrame:
    """Read NIH's hand-drawn boxes, BBox_List_2017.csv, also as .gz: one row a box, in the file's order.

    Returns:
        `image_id`, `finding` (as in NIH_FINDINGS), and `x`, `y` (upper left corner), `width`, `height` (float64), in
        pixels of the 1024 x 1024 image.

    Raises:
        UserError: if the file cannot be read, is no such table, or names an unknown finding.
    """
    columns = ["image_id", "finding", "x", "y", "width", "height"]
    raw = read_csv(path)
    if len(raw.columns) < len(columns) or raw.columns[1] != "Finding Label":
        raise UserError(f"{path}: not NIH's list of boxes; give BBox_List_2017.csv")
    boxes = raw.iloc[:, : len(columns)].set_axis(columns, axis=1)
    boxes["finding"] = boxes["finding"].replace(SPELLINGS)
    unknown = boxes[~boxes["finding"].isin(NIH_FINDINGS)]
    if len(unknown):
        raise _unknown_finding(path, unknown["finding"].iloc[0], unknown["image_id"].iloc[0])
    for name in columns[2:]:
        boxes[name] = _numbers(path, boxes[name], boxes["image_id"]).astype(np.float64)
    return boxes


def _from_names(path: Path, raw: pd.DataFrame) -> np.ndarray:
    """Return (N, F) float32 from `A|B` or `No Finding`; each distinct combination (836 at NIH) is split once."""
    codes, combinations = pd.factorize(raw["Finding Labels"])
    column = {finding: index for index, finding in enumerate(NIH_FINDINGS)}
    positive = np.zeros((len(combinations), len(NIH_FINDINGS)), np.float32)
    for code, combination in enumerate(combinations):
        if combination == NO_FINDING:
            continue
        for finding in combination.split("|"):
            if finding not in column:
                raise _unknown_finding(path, finding, raw["Image Index"].iloc[int(np.argmax(codes == code))])
            positive[code, column[finding]] = 1
    return positive[codes]


def _from_columns(path: Path, raw: pd.DataFrame) -> np.ndarray:
    missing = [finding for finding in NIH_FINDINGS if finding not in raw]
    if missing:
        raise UserError(
            f"{path}: neither a column 'Finding Labels' nor one named {missing[0]!r}; give NIH's label table"
        )
    columns = [_numbers(path, raw[finding], raw["Image Index"]) for finding in NIH_FINDINGS]
    for finding, values in zip(NIH_FINDINGS, columns, strict=True):
        other = ~values.isin((0, 1))
        if other.any():
            raise UserError(f"{path}: {finding} of image {raw['Image Index'][other].iloc[0]} is neither 0 nor 1")
    return np.stack(columns, axis=1).astype(np.float32)


def _patients(path: Path, raw: pd.DataFrame) -> pd.Series:
    if "Patient ID" in raw:
        if (raw["Patient ID"] == "").any():
            raise UserError(f"{path}: image {raw['Image Index'][raw['Patient ID'] == ''].iloc[0]} has no Patient ID")
        return raw["Patient ID"]
    numbers = raw["Image Index"].str.extract(r"^(\d+)_", expand=False)
    return _numbers(path, numbers, raw["Image Index"]).astype(str)


def _years(path: Path, ages: pd.Series, images: pd.Series) -> pd.Series:
    parts = ages.str.extract(r"^(\d+)([YMD]?)$")
    return _numbers(path, parts[0], images) // parts[1].map({**UNITS_PER_YEAR, "": 1}).fillna(1).astype(int)


def _numbers(path: Path, values: pd.Series, images: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any():
        raise UserError(f"{path}: image {images[numbers.isna()].iloc[0]} has no valid number where one belongs")
    return numbers


def _unknown_finding(path: Path, finding: str, image: str) -> UserError:
    known = ", ".join((*NIH_FINDINGS, NO_FINDING))
    return UserError(f"{path}: unknown finding {finding!r} of image {image} (known: {known}); correct the table")
