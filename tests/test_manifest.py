import json
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.manifest import Manifest, Shard, read_manifest, sha256_of, write_manifest

MANIFEST = Manifest(
    dataset="nih",
    findings=("Edema", "Hernia"),
    codec="raw",
    quality=None,
    size=224,
    table="table.csv",
    table_sha256="ab" * 32,
    labels={"file": "röntgen.csv", "sha256": "cd" * 32},
    split={"method": "patient", "files": [], "seed": 3},
    images={"folders": ["/data"], "num_found": 7, "num_labelled": 9, "num_unlabelled": 0},
    counts={"train": 4, "val": 1, "test": 2},
    num_rejected=0,
    seed=3,
    plan_sha256="ef" * 32,
    shards=(Shard("train-00000.tar", "train", 4, 10240, "01" * 32, "23" * 32),),
)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(MANIFEST, tmp_path)
    assert read_manifest(tmp_path) == MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    write_manifest(MANIFEST, tmp_path)
    path = tmp_path / "manifest.json"
    written = path.read_bytes()
    for place in range(len(written)):
        path.write_bytes(written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :])
        with pytest.raises(UserError, match="manifest.json"):
            read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}', "[" * 100_000, '{"format": 1, "shards": 3}'])
def test_what_is_no_manifest_is_a_user_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="manifest.json"):
        read_manifest(tmp_path)


def test_another_format_is_named(tmp_path: Path) -> None:
    write_manifest(MANIFEST, tmp_path)
    values = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**values, "format": 2}))
    with pytest.raises(UserError, match="format 2, this version reads 1"):
        read_manifest(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none/manifest.json: No such file"):
        read_manifest(tmp_path / "none")


def test_an_empty_fold_is_named() -> None:
    assert MANIFEST.fold_shards("train") == list(MANIFEST.shards)
    with pytest.raises(UserError, match="'val'"):
        MANIFEST.fold_shards("val")


def test_sha256_is_the_standards(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
