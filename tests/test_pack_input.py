from pathlib import Path

import pandas as pd
import pytest
from tiny_nih import image_name, pack_tiny, png, write_nih

from shards.errors import UserError
from shards.findings import NIH_FINDINGS
from shards.pack import pack
from shards.table import REJECTED, read_table


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_nih(tmp_path_factory.mktemp("nih"))


def test_images_without_labels_are_counted_and_named(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    (images / "00000099_000.png").write_bytes(png(0))
    (images / "00000098_000.png").write_bytes(png(0))
    with pytest.raises(UserError, match=r"2 of 42 images \(00000098_000.png, 00000099_000.png.*--allow-unlabelled"):
        pack_tiny(tmp_path / "out", images, labels)
    assert not (tmp_path / "out").exists()
    manifest = pack_tiny(tmp_path / "out", images, labels, allow_unlabelled=True)
    assert (manifest.images["num_found"], manifest.images["num_unlabelled"]) == (40, 2)


def test_no_folder_no_image_two_of_one_name(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        pack_tiny(tmp_path / "out", tmp_path / "nowhere", labels)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image found"):
        pack_tiny(tmp_path / "out", tmp_path / "empty", labels)
    (images / "copy").mkdir()
    (images / "copy" / image_name(1, 0)).write_bytes(png(0))
    with pytest.raises(UserError, match="are one image"):
        pack_tiny(tmp_path / "out", images, labels)
    assert not (tmp_path / "out").exists()


def test_two_images_that_differ_in_extension_alone_are_named(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    (images / "00000001_000.jpg").write_bytes(png(0))
    with labels.open("a") as file:
        file.write("00000001_000.jpg,Mass,0,1,30,F,PA,1,1,1,1\n")
    with pytest.raises(UserError, match=r"00000001_000.png and 00000001_000.jpg differ in extension .*rename one"):
        pack_tiny(tmp_path / "out", images, labels)
    assert not (tmp_path / "out").exists()


def test_an_empty_fold_is_named_and_can_be_allowed(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih", num_patients=2)
    split = tmp_path / "split.csv"
    split.write_text("Image Index,fold\n" + "".join(f"{path.name},test\n" for path in images.iterdir()))
    with pytest.raises(UserError, match=r"fold train is empty .*test 4.*--split patient.*--allow-empty-folds"):
        pack_tiny(tmp_path / "out", images, labels, split=[str(split)])
    assert not (tmp_path / "out").exists()
    manifest = pack_tiny(tmp_path / "out", images, labels, split=[str(split)], allow_empty_folds=True)
    assert manifest.counts == {"train": 0, "val": 0, "test": 4}


def test_a_bad_image_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    bad = images / image_name(4, 1)
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(UserError, match=rf"{bad}: .*runcated.*--max-rejects"):
        pack_tiny(tmp_path / "out", images, labels)
    assert not (tmp_path / "out").exists()
    (tmp_path / "before").mkdir()
    with pytest.raises(UserError, match="--max-rejects"):
        pack_tiny(tmp_path / "before", images, labels)
    assert list((tmp_path / "before").iterdir()) == []


def test_allowed_rejects_are_listed_and_keep_their_rows(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    for patient in (4, 9):
        (images / image_name(patient, 1)).write_bytes(b"")
    manifest = pack_tiny(tmp_path / "out", images, labels, max_rejects=2)
    rejects = pd.read_csv(tmp_path / "out" / "rejects.csv")
    assert list(rejects) == ["image_id", "path", "reason"]
    assert list(rejects["image_id"]) == [image_name(4, 1), image_name(9, 1)]
    assert set(rejects["reason"]) == {"empty file"}
    assert manifest.num_rejected == 2
    assert sum(manifest.counts.values()) == 38
    table = read_table(tmp_path / "out" / "table.csv", NIH_FINDINGS)
    assert len(table) == 40
    assert list(table["image_id"][table["fold"] == REJECTED]) == list(rejects["image_id"])
    with pytest.raises(UserError, match="2 bad image"):
        pack_tiny(tmp_path / "again", images, labels, max_rejects=1)


def test_a_fold_that_loses_all_its_images_is_named(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih", num_patients=3, studies=1)
    manifest = pack_tiny(tmp_path / "out", images, labels)
    table = read_table(tmp_path / "out" / manifest.table, NIH_FINDINGS)
    Path(table["path"][table["fold"] == "val"].iloc[0]).write_bytes(b"")
    with pytest.raises(UserError, match="fold val is empty"):
        pack_tiny(tmp_path / "lost", images, labels, max_rejects=3)
    assert not (tmp_path / "lost").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "webp"}, "webp"),
        ({"size": 0}, "--size 0"),
        ({"quality": 96}, "--quality 96"),
        ({"split": ["none.csv"]}, "none.csv"),
    ],
)
def test_a_bad_setting_is_named(
    tiny: tuple[Path, Path], tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        pack_tiny(tmp_path / "out", *tiny, **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.real
def test_real_images_of_one_fold_name_the_empty_one(nih: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fold train is empty .*test 200"):
        pack(
            tmp_path / "out",
            "nih",
            [nih / "images"],
            nih / "Data_Entry_2017_v2020.csv.gz",
            [str(nih / "reference_split.csv.gz")],
        )
