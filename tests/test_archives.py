import gzip
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
from tiny_nih import folder_bytes, image_name, pack_tiny, png, write_nih

from shards.errors import UserError
from shards.findings import NIH_FINDINGS
from shards.table import read_table
from shards.verify import verify

NUM_ARCHIVES = 3


def write_archive(path: Path, files: list[Path]) -> Path:
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for file in files:
            archive.add(file, f"images/{file.name}")
    return path


def write_archives(folder: Path, images: Path) -> Path:
    """Archive a folder's images like NIH, in three parts."""
    folder.mkdir()
    files = sorted(images.iterdir())
    for part in range(NUM_ARCHIVES):
        write_archive(folder / f"images_{part + 1:03d}.tar.gz", files[part::NUM_ARCHIVES])
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The images' folder, their labels, and the folder of their archives."""
    folder = tmp_path_factory.mktemp("archives")
    images, labels = write_nih(folder / "nih")
    return images, labels, write_archives(folder / "archives", images)


@pytest.fixture(scope="module")
def packed(tiny: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the archives are packed into."""
    out = tmp_path_factory.mktemp("packed") / "shards"
    pack_tiny(out, tiny[2], tiny[1])
    return out


def test_archives_give_the_tars_that_their_files_give(
    tiny: tuple[Path, Path, Path], packed: Path, tmp_path: Path
) -> None:
    images, labels, archives = tiny
    pack_tiny(tmp_path / "plain", images, labels)
    plain, streamed = folder_bytes(tmp_path / "plain"), folder_bytes(packed)
    assert plain.keys() == streamed.keys()
    assert {name for name in plain if plain[name] != streamed[name]} == {"table.csv", "manifest.json"}
    table = read_table(packed / "table.csv", NIH_FINDINGS)
    assert table["path"][0] == f"{archives}/images_001.tar.gz/images/{image_name(1, 0)}"
    assert verify(packed, progress=False, decode=True).num_images == 40


def test_images_may_lie_partly_in_archives_and_partly_in_files(tiny: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, labels, archives = tiny
    files = sorted(images.iterdir())
    plain = pack_tiny(tmp_path / "plain", images, labels)
    (tmp_path / "mixed").mkdir()
    for file in files[1::NUM_ARCHIVES]:
        (tmp_path / "mixed" / file.name).symlink_to(file)
    for number in (1, 3):
        (tmp_path / "mixed" / f"images_{number:03d}.tar.gz").symlink_to(archives / f"images_{number:03d}.tar.gz")
    mixed = pack_tiny(tmp_path / "out", tmp_path / "mixed", labels)
    assert [shard.sha256 for shard in mixed.shards] == [shard.sha256 for shard in plain.shards]


def test_bytes_do_not_depend_on_the_number_of_workers(
    tiny: tuple[Path, Path, Path], packed: Path, tmp_path: Path
) -> None:
    pack_tiny(tmp_path / "one", tiny[2], tiny[1], num_workers=1)
    assert folder_bytes(tmp_path / "one") == folder_bytes(packed)


@pytest.mark.parametrize("name", ["images_01.tar.gz", "images-224.tar", "images_001.tgz"])
def test_an_archive_is_found_in_a_folder_or_named_itself(
    tiny: tuple[Path, Path, Path], tmp_path: Path, name: str
) -> None:
    images, labels, _ = tiny
    archive = write_archive(tmp_path / name, list(images.iterdir()))
    in_folder = pack_tiny(tmp_path / "folder-shards", tmp_path, labels)
    named = pack_tiny(tmp_path / "shards", archive, labels)
    assert in_folder.counts == named.counts == {"train": 28, "val": 4, "test": 8}
    assert [shard.sha256 for shard in in_folder.shards] == [shard.sha256 for shard in named.shards]


def test_original_size_is_that_of_the_first_good_image(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    (images / image_name(1, 0)).write_bytes(b"")
    archive = write_archive(tmp_path / "all.tar.gz", sorted(images.iterdir()))
    assert pack_tiny(tmp_path / "out", archive, labels, size=None, max_rejects=1).size == 40


def test_bad_images_in_an_archive_are_rejected_with_their_place(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    (images / image_name(4, 1)).write_bytes(b"<html>")
    archives = write_archives(tmp_path / "archives", images)
    with pytest.raises(UserError, match=rf"1 bad image.*images_\d+.tar.gz/images/{image_name(4, 1)}: not a PNG"):
        pack_tiny(tmp_path / "out", archives, labels)
    assert not (tmp_path / "out").exists()
    manifest = pack_tiny(tmp_path / "out", archives, labels, max_rejects=1)
    rejects = pd.read_csv(tmp_path / "out" / "rejects.csv")
    assert manifest.num_rejected == 1
    assert list(rejects["image_id"]) == [image_name(4, 1)]


def test_unlabelled_images_of_an_archive_are_named(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih")
    (images / "00000099_000.png").write_bytes(b"never decoded")
    archives = write_archives(tmp_path / "archives", images)
    with pytest.raises(UserError, match="1 of 41 images .00000099_000.png"):
        pack_tiny(tmp_path / "out", archives, labels)
    assert not (tmp_path / "out").exists()
    assert pack_tiny(tmp_path / "out", archives, labels, allow_unlabelled=True).images["num_unlabelled"] == 1


def test_one_image_in_two_places_is_named(tiny: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, labels, archives = tiny
    name = image_name(1, 0)
    twice = write_archive(tmp_path / "twice.tar.gz", [images / name, images / name])
    with pytest.raises(UserError, match=f"{name} and .*{name} are one image"):
        pack_tiny(tmp_path / "out", twice, labels)
    write_archive(tmp_path / "images_009.tar.gz", [images / name])
    (tmp_path / "images_008.tar.gz").symlink_to(archives / "images_001.tar.gz")
    with pytest.raises(UserError, match=f"{name} and .*{name} are one image"):
        pack_tiny(tmp_path / "out", tmp_path, labels, allow_empty_folds=True)
    assert not (tmp_path / "out").exists()


def test_a_link_in_an_archive_is_rejected(tiny: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, labels, _ = tiny
    with tarfile.open(tmp_path / "links.tar.gz", "w:gz") as archive:
        for file in sorted(images.iterdir())[1:]:
            archive.add(file, f"images/{file.name}")
        link = tarfile.TarInfo(f"images/{image_name(1, 0)}")
        link.type, link.linkname = tarfile.LNKTYPE, f"images/{image_name(1, 1)}"
        archive.addfile(link)
    with pytest.raises(UserError, match=f"1 bad image.*{image_name(1, 0)}: empty file"):
        pack_tiny(tmp_path / "out", tmp_path / "links.tar.gz", labels)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damaged(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\x00\xff" * 50 + data[len(data) // 2 + 100 :]


def without_end(data: bytes) -> bytes:
    return gzip.compress(gzip.decompress(data)[:1500])


def no_archive(data: bytes) -> bytes:
    return b"<html>404</html>"


@pytest.mark.parametrize("break_archive", [cut, damaged, without_end, no_archive])
def test_a_broken_archive_is_named_and_the_others_are_kept(
    tiny: tuple[Path, Path, Path], packed: Path, tmp_path: Path, break_archive
) -> None:
    images, labels, archives = tiny
    last = archives / "images_003.tar.gz"
    whole = last.read_bytes()
    try:
        last.write_bytes(break_archive(whole))
        with pytest.raises(UserError, match=r"images_003.tar.gz: cut off or damaged after .*; download it again"):
            pack_tiny(tmp_path / "out", archives, labels, num_workers=1)
    finally:
        last.write_bytes(whole)
    assert {path.name for path in (tmp_path / "out" / "packing").glob("spool-*")} == {
        f"spool-00{number}.{suffix}" for number in (0, 1) for suffix in ("bin", "json")
    }
    pack_tiny(tmp_path / "out", archives, labels)
    assert folder_bytes(tmp_path / "out") == folder_bytes(packed)


def test_a_plain_tar_that_is_cut_between_two_images_is_found(tiny: tuple[Path, Path, Path], tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "images-224.tar", list(tiny[0].iterdir()))
    with tarfile.open(archive) as tar:
        second = tar.getmembers()[1].offset
    os.truncate(archive, second)
    with pytest.raises(UserError, match="images-224.tar: cut off or damaged"):
        pack_tiny(tmp_path / "out", archive, tiny[1])


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(
    tiny: tuple[Path, Path, Path], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.files.secrets.token_hex", lambda num_bytes: "full")
    (tmp_path / "out" / "packing").mkdir(parents=True)
    (tmp_path / "out" / "packing" / "tmp-full-spool-001.bin").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"spool-001.bin: No space left on device; make room") as caught:
        pack_tiny(tmp_path / "out", tiny[2], tiny[1], num_workers=1)
    assert len(str(caught.value).splitlines()) == 1
    monkeypatch.undo()
    spooled = {path.name for path in (tmp_path / "out" / "packing").glob("*spool-*.bin")}
    assert "spool-000.bin" in spooled
    assert not spooled & {"spool-001.bin", "tmp-full-spool-001.bin"}
    pack_tiny(tmp_path / "out", tiny[2], tiny[1])
    assert folder_bytes(tmp_path / "out") == folder_bytes(packed)


KILLED = """
import sys
from pathlib import Path
from shards.pack import pack
if __name__ == "__main__":
    out, images, labels = map(Path, sys.argv[1:])
    pack(out, "nih", [images], labels, ["patient"], num_workers=2, progress=False)
"""


def test_killed_while_it_reads_archives_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path / "nih", num_patients=30)
    large = png(0, 600)
    for path in images.iterdir():
        path.write_bytes(large)
    archives = write_archives(tmp_path / "archives", images)
    (tmp_path / "killed.py").write_text(KILLED)

    def command(out: str) -> list[str]:
        return [sys.executable, str(tmp_path / "killed.py"), str(tmp_path / out), str(archives), str(labels)]

    root = Path(__file__).parents[1]
    start = time.perf_counter()
    subprocess.run(command("whole"), check=True, stderr=subprocess.DEVNULL, cwd=root)
    seconds = time.perf_counter() - start
    random = np.random.default_rng(0)
    for _ in range(3):
        process = subprocess.Popen(command("killed"), stderr=subprocess.DEVNULL, cwd=root)
        time.sleep(random.uniform(0.4, 0.9) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command("killed"), check=True, stderr=subprocess.DEVNULL, cwd=root)
    assert folder_bytes(tmp_path / "killed") == folder_bytes(tmp_path / "whole")
