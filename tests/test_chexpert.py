from pathlib import Path

import numpy as np
import pytest

from shards.datasets.chexpert import read_chexpert_labels
from shards.datasets.registry import DATASETS, find_dataset
from shards.errors import UserError
from shards.findings import CHEXPERT_FINDINGS
from shards.sources import find_sources

HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding," + ",".join(CHEXPERT_FINDINGS)
BLANK = "," * (len(CHEXPERT_FINDINGS) - 1)
FRONTAL = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,"
LATERAL = "CheXpert-v1.0-small/train/patient00001/study1/view2_lateral.jpg,Female,68,Lateral,,1.0,"
VALID = "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Unknown,0,Frontal,PA,0.0,"


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_labels_are_kept_as_they_are_written(tmp_path: Path) -> None:
    values = ["1.0", "0.0", "-1.0", "", "1", "0", "-1", *[""] * 6]
    labels = read_chexpert_labels(write(tmp_path / "train.csv", HEADER, FRONTAL + ",".join(values), LATERAL + BLANK))
    expected = [1, 0, -1, np.nan, 1, 0, -1, *[np.nan] * 6]
    np.testing.assert_array_equal(labels[list(CHEXPERT_FINDINGS)].to_numpy()[0], np.array(expected, np.float32))
    assert labels[["image_id", "patient_id", "fold", "view", "age", "sex", "no_finding"]].to_numpy().tolist() == [
        ["train/patient00001/study1/view1_frontal.jpg", "patient00001", "train", "AP", 68, "F", 1],
        ["train/patient00001/study1/view2_lateral.jpg", "patient00001", "train", "lateral", 68, "F", 1],
    ]


def test_a_folder_gives_all_its_tables_with_the_publishers_folds(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", HEADER, FRONTAL + BLANK)
    write(tmp_path / "valid.csv", HEADER, VALID + BLANK)
    write(tmp_path / "train_cheXbert.csv", HEADER, FRONTAL + BLANK)
    labels = read_chexpert_labels(tmp_path)
    assert list(labels["fold"]) == ["train", "val"]
    assert list(labels["sex"]) == ["F", ""]


@pytest.mark.parametrize("place", ["{}.csv", "{0}/{0}.csv"])
@pytest.mark.parametrize("root", ["CheXphoto-v1.0", "CheXphoto-test-v1.0", "photos"])
def test_chexphoto_is_found_wherever_its_tables_and_images_lie(tmp_path: Path, place: str, root: str) -> None:
    renderings = ("natural/iphone", "natural/nokia", "synthetic/digital", "synthetic/photographic")
    images = {
        name: [f"{name}/{rendering}/patient00001/study1/view1_frontal.jpg" for rendering in renderings]
        for name in ("train", "valid", "test")
    }
    for name, paths in images.items():
        for path in paths:
            (tmp_path / root / path).parent.mkdir(parents=True)
            (tmp_path / root / path).touch()
        rows = [f"CheXphoto-v1.0/{path},Female,68,Frontal,AP,1.0,{BLANK}" for path in paths]
        write(tmp_path / root / place.format(name), HEADER, *rows)
    folder = tmp_path / root
    assert find_dataset("auto", folder) == "chexphoto"
    labels = read_chexpert_labels(folder)
    assert list(labels["image_id"]) == [path for paths in images.values() for path in paths]
    found = find_sources([folder], DATASETS["chexphoto"].image_id).files
    assert found == {name: str(folder / name) for name in labels["image_id"]}


def test_a_test_table_of_paths_and_findings_alone_is_read(tmp_path: Path) -> None:
    header = "Path," + ",".join(CHEXPERT_FINDINGS)
    path = "CheXphoto-test-v1.0/test/natural/iphone/patient64741/study1/view1_frontal.jpg"
    labels = read_chexpert_labels(write(tmp_path / "test.csv", header, f"{path}," + BLANK))
    assert list(labels) == ["image_id", "patient_id", "fold", "view", *CHEXPERT_FINDINGS]
    assert list(labels["fold"]) == ["test"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER.replace("Edema,", ""), FRONTAL + BLANK[1:]], "no column 'Edema'"),
        ([HEADER, FRONTAL.replace("view1_", "") + BLANK], "frontal.jpg' is no path like"),
        ([HEADER, FRONTAL + "2.0" + BLANK], "Enlarged Cardiomediastinum of .* is '2.0'"),
        ([HEADER, FRONTAL + BLANK, FRONTAL.replace("-small", "") + BLANK], "stands twice"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_chexpert_labels(write(tmp_path / "train.csv", *lines))


def test_the_table_tells_the_data_set(tmp_path: Path) -> None:
    chexpert = write(tmp_path / "train.csv", HEADER, FRONTAL + BLANK)
    photo = write(tmp_path / "photo.csv", HEADER, FRONTAL.replace("train/", "train/natural/iphone/") + BLANK)
    nih = write(tmp_path / "nih.csv", "Image Index,Finding Labels", "00000001_000.png,Mass")
    other = write(tmp_path / "other.csv", "a,b", "1,2")
    assert [find_dataset("auto", path) for path in (chexpert, tmp_path, photo, nih)] == [
        "chexpert",
        "chexpert",
        "chexphoto",
        "nih",
    ]
    assert find_dataset("chexphoto", chexpert) == "chexphoto"
    with pytest.raises(UserError, match="other.csv: neither"):
        find_dataset("auto", other)
    with pytest.raises(UserError, match="unknown data set 'mimic': give --dataset one of auto, nih"):
        find_dataset("mimic", nih)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds none of train.csv"):
        find_dataset("auto", tmp_path / "empty")
