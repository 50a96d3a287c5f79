import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_nih import folder_bytes, image_name, pack_tiny, png, write_nih

from shards.errors import UserError
from shards.files import TEMPORARY
from shards.manifest import read_manifest
from shards.pack import pack


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_nih(tmp_path_factory.mktemp("nih"))


@pytest.fixture(scope="module")
def packed(tiny: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "raw"
    pack_tiny(out, *tiny)
    return out


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
    with pytest.raises(UserError, match=r"(train|val|test)-0000\d.tar: No space left on device"):
        pack_tiny(tmp_path / "out", *tiny)
    monkeypatch.undo()
    assert not list((tmp_path / "out").glob("*.tar"))
    pack_tiny(tmp_path / "out", *tiny)
