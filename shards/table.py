"""The study table: one row an image, with its patient, fold and findings."""

import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from shards.errors import UserError
from shards.files import whole_file
from shards.findings import FOLDS

KEY_COLUMNS = ("row", "image_id", "path", "patient_id", "fold")
REJECTED = "rejected"
"""The fold of a row whose image could not be decoded: it keeps its row number and is in no shard."""


def make_study_table(frame: pd.DataFrame, findings: Sequence[str]) -> pd.DataFrame:
    """Give a label frame the study table's columns, order and types.

    Args:
        frame: one row an image, with `image_id`, `path`, `patient_id`, `fold`, one column per finding (1 positive,
            0 negative, -1 uncertain, NaN blank, see shards/policy.py) and any metadata columns (`age` in years, `sex`,
            `view`).
        findings: the finding columns.

    Returns:
        `row` (int32, 0..N-1 in the frame's order), `image_id`, `path`, `patient_id`, `fold`, the metadata columns,
        then one float32 column per finding.

    Raises:
        UserError: if an image id is duplicated, a fold is none of train, val, test and rejected, or a patient
            stands in two folds.
    """
    metadata = [name for name in frame.columns if name not in KEY_COLUMNS and name not in findings]
    table = frame.reset_index(drop=True)
    table["row"] = np.arange(len(table), dtype=np.int32)
    for finding in findings:
        table[finding] = table[finding].astype(np.float32)
    table = table[[*KEY_COLUMNS, *metadata, *findings]]
    check_table(table)
    return table


def check_table(table: pd.DataFrame) -> None:
    """Raise UserError unless image ids are unique, folds are known and no patient stands in two folds."""
    duplicated = table["image_id"][table["image_id"].duplicated()]
    if len(duplicated):
        raise UserError(f"image {duplicated.iloc[0]} stands twice in the labels: remove one of its rows")
    unknown = sorted(set(table["fold"]) - {*FOLDS, REJECTED})
    if unknown:
        raise UserError(f"fold {unknown[0]!r} is none of {', '.join(FOLDS)}: correct the split file")
    packed = table[table["fold"] != REJECTED]
    check_patients(packed["patient_id"], packed["fold"], "the table")


def check_patients(patients: pd.Series, folds: pd.Series, name: str) -> None:
    """Raise UserError, which names the source of the folds and the patients, if a patient stands in two folds."""
    folds_per_patient = folds.groupby(patients).nunique()
    leaking = list(folds_per_patient.index[folds_per_patient > 1])
    if leaking:
        raise UserError(
            f"{name}: {len(leaking)} patient(s) stand in two folds ({', '.join(map(str, leaking[:5]))}): "
            "split by patient, or use --split patient"
        )


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a study table as CSV, whole or not at all; blank findings are empty fields, others 0, 1 or -1."""
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%g", lineterminator="\n")


def read_table(path: Path, findings: Sequence[str]) -> pd.DataFrame:
    """Read a study table that `write_table` wrote.

    Raises:
        UserError: if the file cannot be read as such a table.
    """
    text = dict.fromkeys(("image_id", "path", "patient_id", "fold", "sex", "view"), str)
    try:
        table = pd.read_csv(path, dtype={**text, "row": np.int32, **dict.fromkeys(findings, np.float32)})
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a study table ({error}); pack the data set again") from error
    missing = [name for name in (*KEY_COLUMNS, *findings) if name not in table.columns]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}; pack the data set again")
    if not np.array_equal(table["row"].to_numpy(), np.arange(len(table))):
        raise UserError(f"{path}: rows are not 0..{len(table) - 1} in order; pack the data set again")
    return table


def read_csv(path: Path) -> pd.DataFrame:
    """Read a user's CSV, also as .gz, with a header line: every field as text, empty fields as empty text.

    What follows the last named column is not read: NIH's 2017 rows end with a comma.

    Raises:
        UserError: if the file is missing, is no such table, or holds no row.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # says that unnamed columns are left out
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path}: not a readable CSV table ({reason}); give another file") from error
    if frame.empty:
        raise UserError(f"{path}: holds no row; give another file")
    return frame


def check_unique(path: Path, images: pd.Series) -> None:
    """Raise UserError, which names `path` and the image, if an image id stands twice."""
    duplicated = images[images.duplicated()]
    if len(duplicated):
        raise UserError(f"{path}: image {duplicated.iloc[0]} stands twice: remove one of its rows")
