import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from tiny_nih import folder_bytes, image_name, pack_tiny, png, write_nih

from shards.codec import decode_image, fit_image
from shards.errors import UserError
from shards.findings import NIH_FINDINGS
from shards.manifest import read_manifest
from shards.pack import pack
from shards.shard_file import read_index
from shards.table import read_table


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_nih(tmp_path_factory.mktemp("nih"))


@pytest.fixture(scope="module")
def packed(tiny: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "raw"
    pack_tiny(out, *tiny)
    return out


def test_every_image_stands_once_in_its_fold_with_its_pixels(tiny: tuple[Path, Path], packed: Path) -> None:
    manifest = read_manifest(packed)
    table = read_table(packed / "table.csv", NIH_FINDINGS)
    assert manifest.counts == {"train": 28, "val": 4, "test": 8}
    assert manifest.images == {
        "folders": [str(tiny[0])],
        "views": "frontal",
        "num_found": 40,
        "num_labelled": 40,
        "num_unlabelled": 0,
    }
    seen = []
    for shard in manifest.shards:
        for sample in webdataset.WebDataset(str(packed / shard.file), shardshuffle=False):
            (row,) = np.frombuffer(sample["row"], "<i4")
            record = json.loads(sample["json"])
            study = table.iloc[row]
            assert sample["__key__"] == study["image_id"].removesuffix(".png")
            assert [record[name] for name in ("image_id", "patient_id", "fold")] == [
                study["image_id"],
                study["patient_id"],
                shard.fold,
            ]
            assert record["findings"] == [finding for finding in NIH_FINDINGS if study[finding] == 1]
            assert sample["gray"] == fit_image(decode_image(Path(study["path"]).read_bytes()), 24).tobytes()
            seen.append((shard.fold, row))
    assert sorted(row for _, row in seen) == list(range(40))
    for fold in ("val", "test"):
        rows = [row for name, row in seen if name == fold]
        assert rows == sorted(rows)
    train = [row for name, row in seen if name == "train"]
    assert train != sorted(train)


def test_shards_are_plain_reproducible_tars_with_the_members_in_order(packed: Path) -> None:
    shard = read_manifest(packed).shards[0]
    with tarfile.open(packed / shard.file) as tar:
        members = tar.getmembers()
    assert [member.name.partition(".")[2] for member in members[:3]] == ["gray", "json", "row"]
    owners = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members}
    assert owners == {(0, 0, 0, "", "", 0o444)}
    assert (packed / shard.file).stat().st_size == shard.num_bytes


def test_the_index_says_where_the_data_lie(packed: Path) -> None:
    shard = read_manifest(packed).shards[0]
    assert (packed / shard.index_file).read_text().startswith(f"v1.2 {shard.num_images}\ngray 512 576 ")
    with tarfile.open(packed / shard.file) as tar:
        expected = [(member.name, member.offset_data, member.size) for member in tar]
    samples = read_index(packed / shard.index_file)
    assert [(part.name, part.offset, part.size) for sample in samples for part in sample] == expected


@pytest.mark.parametrize("codec", ["png", "jpeg"])
def test_other_tools_decode_the_shards(tiny: tuple[Path, Path], tmp_path: Path, codec: str) -> None:
    manifest = pack_tiny(tmp_path / codec, *tiny, codec=codec, quality=90)
    assert manifest.quality == (90 if codec == "jpeg" else None)
    urls = [str(tmp_path / codec / shard.file) for shard in manifest.shards]
    images = [
        sample["png" if codec == "png" else "jpg"]
        for sample in webdataset.WebDataset(urls, shardshuffle=False).decode("pil")
    ]
    assert len(images) == 40
    assert {image.size for image in images} == {(24, 24)}


def test_bytes_do_not_depend_on_workers_or_on_the_order_of_folders(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    first = pack_tiny(tmp_path / "one", *tiny, num_workers=1)
    second = pack_tiny(tmp_path / "three", *tiny, num_workers=3)
    assert first == second
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "three")


def test_packing_again_changes_nothing_and_other_settings_are_refused(tiny: tuple[Path, Path], packed: Path) -> None:
    before = folder_bytes(packed)
    pack_tiny(packed, *tiny)
    with pytest.raises(UserError, match="other input or settings"):
        pack_tiny(packed, *tiny, seed=1)
    assert folder_bytes(packed) == before


def test_packing_again_with_other_labels_points_to_relabel(
    tiny: tuple[Path, Path], packed: Path, tmp_path: Path
) -> None:
    images, labels = tiny
    other = tmp_path / "other.csv"
    other.write_text(labels.read_text().replace("Hernia", "Edema"))
    with pytest.raises(UserError, match=rf"other labels .{labels.name}.*chexnet-fast relabel {packed} --labels FILE"):
        pack_tiny(packed, images, other)
    with pytest.raises(UserError, match="other input or settings"):
        pack_tiny(packed, images, other, size=25)


def test_a_folder_with_other_files_is_left_alone(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        pack_tiny(tmp_path, *tiny)
    assert folder_bytes(tmp_path) == {"notes.txt": b"mine"}


def test_only_found_images_are_packed_and_both_numbers_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = write_nih(tmp_path / "nih")
    (images / image_name(1, 0)).unlink()
    manifest = pack_tiny(tmp_path / "out", images, labels)
    assert "39 of 40 labelled images found" in capsys.readouterr().err
    assert (manifest.images["num_found"], manifest.images["num_labelled"]) == (39, 40)


def test_images_are_found_in_several_folders_at_any_depth(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    (tmp_path / "more" / "images").mkdir(parents=True)
    (images / image_name(1, 0)).rename(tmp_path / "more" / "images" / image_name(1, 0))
    manifest = pack(tmp_path / "out", "nih", [images, tmp_path / "more"], labels, ["patient"], progress=False)
    assert manifest.images["num_found"] == 40


def test_original_size_keeps_each_image_and_raw_needs_one_size(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    assert pack_tiny(tmp_path / "raw", images, labels, size=None).size == 40
    (images / image_name(5, 0)).write_bytes(png(0, 50))
    manifest = pack_tiny(tmp_path / "png", images, labels, codec="png", size=None)
    assert manifest.size is None
    sizes = set()
    for shard in manifest.shards:
        for sample in webdataset.WebDataset(str(tmp_path / "png" / shard.file), shardshuffle=False).decode("pil"):
            sizes.add(sample["png"].size)
    assert sizes == {(40, 40), (50, 50)}
    with pytest.raises(UserError, match=rf"{image_name(5, 0)}: 50 x 50 pixels.*--codec png, or --size 40"):
        pack_tiny(tmp_path / "mixed", images, labels, size=None)
    assert not (tmp_path / "mixed").exists()


@pytest.mark.real
def test_real_images_are_packed_as_the_reference_resizes_them(nih: Path, tmp_path: Path) -> None:
    manifest = pack(
        tmp_path / "out", "nih", [nih / "images"], nih / "Data_Entry_2017_v2020.csv.gz", ["patient"], progress=False
    )
    assert sum(manifest.counts.values()) == 200
    assert manifest.images["num_labelled"] == 112_120
    sample = next(iter(webdataset.WebDataset(str(tmp_path / "out" / manifest.shards[0].file), shardshuffle=False)))
    file = nih / "images" / f"{sample['__key__']}.png"
    resized = Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    assert (np.asarray(resized) == np.frombuffer(sample["gray"], np.uint8).reshape(224, 224, 1)).all()
