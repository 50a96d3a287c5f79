import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_nih import image_name, write_nih

from shards.errors import UserError
from shards.manifest import read_manifest, write_manifest
from shards.pack import pack
from shards.shard_file import read_index
from shards.verify import verify


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    images, labels = write_nih(folder / "nih")
    (images / image_name(3, 0)).write_bytes(b"")
    for codec in ("raw", "png"):
        out = folder / codec
        pack(out, "nih", [images], labels, ["patient"], size=16, codec=codec, max_rejects=1, progress=False)
    return folder / "raw"


@pytest.fixture
def copied(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def check(folder: Path, **options: bool) -> str:
    return str(verify(folder, num_workers=1, progress=False, **options))


@pytest.mark.parametrize("codec", ["raw", "png"])
def test_what_pack_wrote_is_whole(packed: Path, codec: str) -> None:
    text = check(packed.parent / codec, decode=True)
    assert text.startswith("3 shards, 39 images, ")


def change(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place, os.SEEK_SET if place >= 0 else os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_of_a_sample_names_tar_and_sample(copied: Path, data: st.DataObject) -> None:
    tar = copied / "train-00000.tar"
    samples = read_index(tar.with_suffix(".idx"))
    number = data.draw(st.integers(0, len(samples) - 1))
    begin = samples[number][0].offset - 512
    end = samples[number + 1][0].offset - 512 if number + 1 < len(samples) else samples[number][-1].offset + 512
    place = data.draw(st.integers(begin, end - 1))
    change(tar, place)
    try:
        with pytest.raises(UserError, match=f"train-00000.tar: sample {samples[number][0].name[:-5]} is damaged"):
            check(copied)
    finally:
        change(tar, place)


@pytest.mark.parametrize("file", ["train-00000.idx", "table.csv", "manifest.json", "rejects.csv"])
def test_a_changed_byte_elsewhere_names_the_file(copied: Path, file: str) -> None:
    change(copied / file, (copied / file).read_bytes().index(b"0"))
    with pytest.raises(UserError, match=file):
        check(copied)


def test_damage_after_the_last_sample_is_found(copied: Path) -> None:
    change(copied / "val-00000.tar", -1)
    with pytest.raises(UserError, match="val-00000.tar: damaged after the last sample"):
        check(copied)


def test_a_truncated_tar_names_the_first_sample_that_is_gone(copied: Path) -> None:
    tar = copied / "train-00000.tar"
    samples = read_index(tar.with_suffix(".idx"))
    os.truncate(tar, samples[5][1].offset)
    with pytest.raises(UserError, match=f"sample {samples[5][0].name[:-5]} is damaged"):
        check(copied)


@pytest.mark.parametrize("file", ["val-00000.tar", "val-00000.idx", "table.csv", "rejects.csv"])
def test_a_missing_file_is_named(copied: Path, file: str) -> None:
    (copied / file).unlink()
    with pytest.raises(UserError, match=f"{file}: missing"):
        check(copied)


def test_an_extra_shard_is_named(copied: Path) -> None:
    shutil.copy(copied / "val-00000.tar", copied / "val-00001.tar")
    with pytest.raises(UserError, match=r"val-00001.tar: a shard that manifest.json does not list"):
        check(copied)


def test_a_shard_listed_under_the_wrong_fold_is_found(copied: Path) -> None:
    manifest = read_manifest(copied)
    shards = tuple(shard.__class__(**{**shard.__dict__, "fold": "val"}) for shard in manifest.shards)
    write_manifest(manifest.__class__(**{**manifest.__dict__, "shards": shards}), copied)
    with pytest.raises(UserError, match="do not hold the table's .* rows, each once"):
        check(copied)
