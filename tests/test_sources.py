import os
from pathlib import Path

import pytest

from shards.datasets.chexpert import chexpert_image_id
from shards.datasets.registry import file_name
from shards.errors import UserError
from shards.sources import find_sources


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "layout", ["{}", "images_001/images/{}", "images-224/{}", "images-224/images-224/{}", "a/b/c/{}"]
)
def test_nihs_images_are_found_by_name_in_any_folder(tmp_path: Path, layout: str) -> None:
    touch(tmp_path, layout.format("00000001_000.png"), layout.format("00000002_000.PNG"), "Data_Entry_2017.csv")
    sources = find_sources([tmp_path], file_name)
    assert sources.files == {
        name: str(tmp_path / layout.format(name)) for name in ("00000001_000.png", "00000002_000.PNG")
    }
    assert sources.archives == ()


def test_nihs_archives_are_found_by_both_spellings_and_others_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "images_001.tar.gz", "images_02.tar.gz", "images-224.tar", "train-00000.tar", "notes.tar.gz")
    names = ["images-224.tar", "images_001.tar.gz", "images_02.tar.gz"]
    assert find_sources([tmp_path], file_name).archives == tuple(str(tmp_path / name) for name in names)
    assert find_sources([tmp_path / "notes.tar.gz"], file_name).archives == (str(tmp_path / "notes.tar.gz"),)


STUDY = "patient00001/study1/view1_frontal.jpg"


@pytest.mark.parametrize(
    ("path", "image_id"),
    [
        (f"CheXpert-v1.0-small/train/{STUDY}", f"train/{STUDY}"),
        (f"CheXpert-v1.0/valid/{STUDY}", f"valid/{STUDY}"),
        (f"train/{STUDY}", f"train/{STUDY}"),
        (f"/data/CheXpert-v1.0 batch 2 (train 1)/{STUDY}", f"train/{STUDY}"),
        (f"/data/CheXpert-v1.0 batch 1 (validate & csv)/{STUDY}", f"valid/{STUDY}"),
        (f"/data/CheXpert-v1.0 batch 1 (validate & csv)/valid/{STUDY}", f"valid/{STUDY}"),
        (f"/train/CheXphoto-v1.0/valid/natural/iphone/{STUDY}", f"valid/natural/iphone/{STUDY}"),
        (f"CheXphoto-test-v1.0/test/synthetic/digital/{STUDY}", f"test/synthetic/digital/{STUDY}"),
        (f"/data/{STUDY}", None),
        ("/data/train/00000001_000.png", None),
    ],
)
def test_chexperts_ids_are_paths_from_the_set_on(path: str, image_id: str | None) -> None:
    assert chexpert_image_id(path) == image_id


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder or archive"):
        find_sources([tmp_path / "nowhere"], file_name)
    with pytest.raises(UserError, match="no image found"):
        find_sources([touch(tmp_path / "empty", "notes.txt")], file_name)
    (tmp_path / "names").mkdir()
    Path(os.fsdecode(bytes(tmp_path / "names") + b"/\xff.png")).touch()
    with pytest.raises(UserError, match="not a UTF-8 name"):
        find_sources([tmp_path / "names"], file_name)


def test_a_folder_whose_path_is_too_long_to_be_listed_is_named(tmp_path: Path) -> None:
    place = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(18):
            Path("d" * 240).mkdir()
            os.chdir("d" * 240)
        Path("00000001_000.png").touch()
    finally:
        os.chdir(place)
    with pytest.raises(UserError, match="File name too long"):
        find_sources([tmp_path], file_name)
