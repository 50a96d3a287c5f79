import gzip
from pathlib import Path

import numpy as np
import pytest

from shards.datasets.nih import read_boxes, read_nih_labels
from shards.errors import UserError
from shards.findings import NIH_FINDINGS

HEADER_2020 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_v2020_columns_types_and_values(tmp_path: Path) -> None:
    path = write(
        tmp_path / "labels.csv",
        HEADER_2020,
        "00000001_000.png,Cardiomegaly|Emphysema,0,1,57,M,PA,2682,2749,0.143,0.143",
        "00000003_001.png,No Finding,1,3,80,F,AP,2544,3056,0.139,0.139",
    )
    labels = read_nih_labels(path)
    assert list(labels) == ["image_id", "patient_id", "follow_up", "age", "sex", "view", *NIH_FINDINGS]
    assert list(labels.iloc[0, :6]) == ["00000001_000.png", "1", 0, 57, "M", "PA"]
    assert list(labels.iloc[1, :6]) == ["00000003_001.png", "3", 1, 80, "F", "AP"]
    assert {finding for finding in NIH_FINDINGS if labels[finding][0] == 1} == {"Cardiomegaly", "Emphysema"}
    assert labels[list(NIH_FINDINGS)].to_numpy().dtype == np.float32
    assert labels[list(NIH_FINDINGS)].iloc[1].sum() == 0


@pytest.mark.parametrize("header_comma", ["", ","])
def test_2017_rows_end_with_a_comma_and_ages_carry_units(tmp_path: Path, header_comma: str) -> None:
    path = write(
        tmp_path / "labels.csv",
        HEADER_2020.replace("Gender", "Sex") + header_comma,
        "00000001_000.png,Effusion,0,1,058Y,M,PA,2682,2749,0.143,0.143,",
        "00000002_000.png,Mass,0,2,023M,F,PA,2682,2749,0.143,0.143,",
        "00000003_000.png,Mass,0,3,013D,F,PA,2682,2749,0.143,0.143,",
    )
    labels = read_nih_labels(path)
    assert list(labels["image_id"]) == ["00000001_000.png", "00000002_000.png", "00000003_000.png"]
    assert list(labels["age"]) == [58, 1, 0]
    assert list(labels["sex"]) == ["M", "F", "F"]


def test_two_columns_take_the_patient_from_the_image_name(tmp_path: Path) -> None:
    path = tmp_path / "labels_2017.csv.gz"
    path.write_bytes(
        gzip.compress(b"Image Index,Finding Labels\n00000013_004.png,Hernia\n00030805_000.png,No Finding\n")
    )
    labels = read_nih_labels(path)
    assert list(labels) == ["image_id", "patient_id", *NIH_FINDINGS]
    assert list(labels["patient_id"]) == ["13", "30805"]
    assert list(labels["Hernia"]) == [1, 0]


def test_reproduce_chexnets_table_has_a_fold_and_a_column_per_finding(tmp_path: Path) -> None:
    header = ",Image Index,Patient ID,fold," + ",".join(reversed(NIH_FINDINGS))
    path = write(tmp_path / "nih_labels.csv", header, "0,00000001_000.png,1,val,1" + ",0" * 12 + ",1")
    labels = read_nih_labels(path)
    assert list(labels) == ["image_id", "patient_id", "fold", *NIH_FINDINGS]
    assert labels["fold"][0] == "val"
    assert {finding for finding in NIH_FINDINGS if labels[finding][0] == 1} == {"Hernia", "Atelectasis"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Image Index,Finding Labels", "1_0.png,Mass", "1_1.png,Mass|Rickets"], "'Rickets' of image 1_1.png"),
        (["Image Index,Finding Labels", "1_0.png,"], "'' of image 1_0.png"),
        (["Image Index,Finding Labels", "1_0.png,Mass", "1_0.png,Mass"], "1_0.png stands twice"),
        (["Image Index,Finding Labels", "one.png,Mass"], "one.png"),
        (["Image Index,Finding Labels,Patient ID", "1_0.png,Mass,"], "1_0.png has no Patient ID"),
        (["Image Index,Finding Labels,Patient Age", "1_0.png,Mass,old"], "1_0.png"),
        (["Image,Labels", "1_0.png,Mass"], "no column 'Image Index'"),
        (["Image Index,Patient ID", "1_0.png,1"], "Finding Labels"),
        (["Image Index,Finding Labels"], "no row"),
        ([], "not a readable CSV"),
    ],
)
def test_a_bad_table_is_one_line_that_names_file_and_value(tmp_path: Path, lines: list[str], message: str) -> None:
    path = write(tmp_path / "labels.csv", *lines)
    with pytest.raises(UserError) as error:
        read_nih_labels(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value).strip()


def test_a_value_that_is_neither_0_nor_1_is_named(tmp_path: Path) -> None:
    header = "Image Index,fold," + ",".join(NIH_FINDINGS)
    path = write(tmp_path / "nih_labels.csv", header, "7_0.png,val," + ",".join("0" * 13) + ",2")
    with pytest.raises(UserError, match="Hernia of image 7_0.png"):
        read_nih_labels(path)


def test_a_file_that_is_missing_or_no_gzip_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_nih_labels(tmp_path / "none.csv")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"Image Index,Finding Labels\n" * 100)[:30])
    with pytest.raises(UserError, match="cut.csv.gz"):
        read_nih_labels(tmp_path / "cut.csv.gz")


def test_boxes_use_the_findings_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "boxes.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,",
        "00013118_008.png,Infiltrate,225.5,547,86,79.25",
    )
    boxes = read_boxes(path)
    assert list(boxes) == ["image_id", "finding", "x", "y", "width", "height"]
    assert list(boxes.iloc[0]) == ["00013118_008.png", "Infiltration", 225.5, 547, 86, 79.25]


def test_boxes_from_another_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="BBox_List_2017"):
        read_boxes(write(tmp_path / "labels.csv", "Image Index,Finding Labels", "1_0.png,Mass"))


@pytest.mark.real
def test_real_tables_hold_the_published_numbers(nih: Path) -> None:
    labels = read_nih_labels(nih / "Data_Entry_2017_v2020.csv.gz")
    assert len(labels) == 112_120
    assert labels["patient_id"].nunique() == 30_805
    assert labels["Infiltration"].sum() == 19_894
    assert labels["Hernia"].sum() == 227
    labels = labels.set_index("image_id")
    old = read_nih_labels(nih / "labels_2017.csv.gz").set_index("image_id").loc[labels.index]
    assert (old["patient_id"] == labels["patient_id"]).all()
    change = labels[list(NIH_FINDINGS)] - old[list(NIH_FINDINGS)]
    assert (change != 0).any(axis=1).sum() == 181
    assert change["Pneumonia"].sum() == 78
    assert change["Mass"].sum() == 36


@pytest.mark.real
def test_real_boxes_are_984_on_880_images(nih: Path) -> None:
    boxes = read_boxes(nih / "BBox_List_2017.csv.gz")
    assert len(boxes) == 984
    assert boxes["image_id"].nunique() == 880
    assert boxes["finding"].nunique() == 8
    assert (boxes["x"] + boxes["width"]).max() <= 1024
