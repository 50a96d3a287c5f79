import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_nih import folder_bytes, image_name, png, write_nih

from shards.codec import decode_image, pack_image
from shards.errors import UserError
from shards.files import TEMPORARY
from shards.findings import FOLDS, NIH_FINDINGS
from shards.manifest import read_manifest
from shards.pack import pack
from shards.plan import plan_shards
from shards.shard_file import read_index, sample_key
from shards.table import REJECTED, make_study_table, read_table


def pack_tiny(out: Path, images: Path, labels: Path, **settings: object):
    options = {"split": ["patient"], "size": 24, "num_workers": 2, "progress": False, **settings}
    return pack(out, "nih", [images], labels, **options)


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
            assert sample["gray"] == pack_image(decode_image(Path(study["path"]).read_bytes()), "raw", 24, None)
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


class TestBadInput:
    def test_images_without_labels_are_counted_and_named(self, tmp_path: Path) -> None:
        images, labels = write_nih(tmp_path / "nih")
        (images / "00000099_000.png").write_bytes(png(0))
        (images / "00000098_000.png").write_bytes(png(0))
        with pytest.raises(UserError, match=r"2 of 42 images \(00000098_000.png, 00000099_000.png.*--allow-unlabelled"):
            pack_tiny(tmp_path / "out", images, labels)
        assert not (tmp_path / "out").exists()
        manifest = pack_tiny(tmp_path / "out", images, labels, allow_unlabelled=True)
        assert (manifest.images["num_found"], manifest.images["num_unlabelled"]) == (40, 2)

    def test_no_folder_no_image_two_of_one_name(self, tmp_path: Path) -> None:
        images, labels = write_nih(tmp_path / "nih")
        with pytest.raises(UserError, match="nowhere: no such folder"):
            pack_tiny(tmp_path / "out", tmp_path / "nowhere", labels)
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match="no image found"):
            pack_tiny(tmp_path / "out", tmp_path / "empty", labels)
        (images / "copy").mkdir()
        (images / "copy" / image_name(1, 0)).write_bytes(png(0))
        with pytest.raises(UserError, match="have one name"):
            pack_tiny(tmp_path / "out", images, labels)
        assert not (tmp_path / "out").exists()

    def test_an_empty_fold_is_named_and_can_be_allowed(self, tmp_path: Path) -> None:
        images, labels = write_nih(tmp_path / "nih", num_patients=2)
        split = tmp_path / "split.csv"
        split.write_text("Image Index,fold\n" + "".join(f"{path.name},test\n" for path in images.iterdir()))
        with pytest.raises(UserError, match=r"fold train is empty .*test 4.*--split patient.*--allow-empty-folds"):
            pack_tiny(tmp_path / "out", images, labels, split=[str(split)])
        assert not (tmp_path / "out").exists()
        manifest = pack_tiny(tmp_path / "out", images, labels, split=[str(split)], allow_empty_folds=True)
        assert manifest.counts == {"train": 0, "val": 0, "test": 4}

    def test_a_bad_image_is_named_and_nothing_is_left(self, tmp_path: Path) -> None:
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

    def test_allowed_rejects_are_listed_and_keep_their_rows(self, tmp_path: Path) -> None:
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

    def test_a_fold_that_loses_all_its_images_is_named(self, tmp_path: Path) -> None:
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
        self, tiny: tuple[Path, Path], tmp_path: Path, settings: dict[str, object], message: str
    ) -> None:
        with pytest.raises(UserError, match=message):
            pack_tiny(tmp_path / "out", *tiny, **settings)
        assert not (tmp_path / "out").exists()


KILLED = """
import sys
from pathlib import Path
from shards.pack import pack
if __name__ == "__main__":
    out, images, labels = map(Path, sys.argv[1:])
    pack(out, "nih", [images], labels, ["patient"], num_workers=2, max_rejects=1, progress=False)
"""


def processes_of(folder: Path) -> list[int]:
    """The processes whose command line names the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def receipts_in(out: Path) -> list[Path]:
    """The receipts of finished shards, whole ones only."""
    return [path for path in out.glob("packing/*.json") if not path.name.startswith(TEMPORARY)]


def test_a_packing_killed_again_and_again_ends_with_the_same_bytes_and_leaves_no_process(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih", num_patients=100, studies=2)
    (tmp_path / "large.png").write_bytes(png(0, 700))
    for path in images.iterdir():
        path.unlink()
        os.link(tmp_path / "large.png", path)
    (images / image_name(7, 0)).unlink()
    (images / image_name(7, 0)).write_bytes(b"")
    pack(tmp_path / "whole", "nih", [images], labels, ["patient"], max_rejects=1, progress=False)

    out = tmp_path / "killed"
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "killed.py"), str(out), str(images), str(labels)]
    random = np.random.default_rng(0)
    for num_finished in (0, 1, 3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
        while process.poll() is None and len(receipts_in(out)) <= num_finished:
            time.sleep(0.005)
        time.sleep(random.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert 3 < len(receipts_in(out)) < 8
    time.sleep(0.5)
    assert processes_of(out) == []
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    assert folder_bytes(out) == folder_bytes(tmp_path / "whole")


def test_finished_shards_are_kept_and_left_overs_removed(tiny: tuple[Path, Path], packed: Path, tmp_path: Path) -> None:
    """Rebuild what a kill leaves behind: some shards with receipts, a temporary file, no manifest."""
    manifest = read_manifest(packed)
    out = tmp_path / "out"
    (out / "packing").mkdir(parents=True)
    (out / "packing" / "plan.sha256").write_text(manifest.plan_sha256)
    first = manifest.shards[0]
    for name in (first.file, first.index_file):
        (out / name).write_bytes((packed / name).read_bytes())
    receipt = {"name": "train-00000", "shard": first.__dict__, "rejects": []}
    (out / "packing" / "train-00000.json").write_text(json.dumps(receipt))
    (out / "tmp-0123-train-00001.tar").write_bytes(b"half")
    written = (out / first.file).stat().st_mtime_ns
    pack_tiny(out, *tiny)
    assert (out / first.file).stat().st_mtime_ns == written
    assert folder_bytes(out) == folder_bytes(packed)


def test_another_plan_in_an_unfinished_folder_is_refused(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "packing").mkdir()
    (tmp_path / "packing" / "plan.sha256").write_text("0" * 64)
    with pytest.raises(UserError, match="unfinished packing"):
        pack_tiny(tmp_path, *tiny)


def test_a_full_disk_is_one_line(tiny: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shards.shard_file.ShardWriter.write", full)
    with pytest.raises(UserError, match="train-0000.*No space left on device"):
        pack_tiny(tmp_path / "out", *tiny)
    monkeypatch.undo()
    assert not list((tmp_path / "out").glob("*.tar"))
    pack_tiny(tmp_path / "out", *tiny)


@given(st.integers(0, 5000), st.integers(0, 3), st.integers(0, 2**32))
def test_a_plan_holds_each_row_once_in_shards_of_a_bounded_size(num_train: int, num_val: int, seed: int) -> None:
    num = num_train + num_val
    frame = pd.DataFrame(
        {
            "image_id": [f"{row}_0.png" for row in range(num)],
            "path": "",
            "patient_id": [str(row) for row in range(num)],
            "fold": ["train"] * num_train + ["val"] * num_val,
            "Edema": 0.0,
        }
    )
    shards = plan_shards(make_study_table(frame, ["Edema"]), ["Edema"], seed)
    rows = [sample.row for shard in shards for sample in shard.samples]
    assert sorted(rows) == list(range(num))
    assert rows[num_train:] == list(range(num_train, num))
    assert all(1 <= len(shard.samples) <= 1024 for shard in shards)
    assert [shard.fold for shard in shards] == sorted((shard.fold for shard in shards), key=FOLDS.index)


@given(st.text(max_size=300))
def test_keys_fit_webdataset_and_dali(image_id: str) -> None:
    key = sample_key(image_id)
    assert 0 < len(key) < 80
    assert key.isascii()
    assert not set(key) & set("./ \n")


def test_keys_are_the_names_people_know() -> None:
    assert sample_key("00000001_000.png") == "00000001_000"
    assert sample_key("train/patient00001/study1/view1_frontal.jpg") == "train-patient00001-study1-view1_frontal"
    assert sample_key("a b.png") != sample_key("a_b.png") != sample_key("a.b.png")


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
