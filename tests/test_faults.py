"""What happens to a loader when its files come to harm: one line that names them, or nothing at all."""

import gc
import os
import shutil
import sys
from pathlib import Path

import pytest
from epochs import FLIPPED, SIZE, assert_equal_epochs, epoch_of
from tiny_nih import pack_tiny, write_nih

from chexnet_fast import cli
from pipelines.build import build_loader
from pipelines.spec import InputSpec
from shards.errors import UserError
from shards.fold import Fold, open_fold
from shards.manifest import read_manifest

FROM_SHARDS = [("dali", 2), ("resident", 2), ("pil-shards", 0), ("pil-shards", 2)]
STREAMING = [("dali", 2), ("pil-shards", 0), ("pil-shards", 2)]


@pytest.fixture
def shards(packed: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the shards of a codec: raw, or the one that a test names."""
    return Path(shutil.copytree(packed[getattr(request, "param", "raw")], tmp_path / "shards"))


def train_fold(shards: Path) -> Fold:
    return open_fold(shards, read_manifest(shards), "train")


def train_tar(shards: Path) -> Path:
    (tar,) = shards.glob("train-*.tar")
    return tar


def damage_image(shards: Path, position: int) -> str:
    """Blacken the head of a packed image; return what names it in messages."""
    fold, tar = train_fold(shards), train_tar(shards)
    image = fold.image_bytes(position).tobytes()
    tar.write_bytes(tar.read_bytes().replace(image, image[:2] + bytes(58) + image[60:]))
    return rf"{tar.name}, image {fold.table['image_id'].iloc[position]}: "


@pytest.mark.parametrize("shards", ["png", "jpeg"], indirect=True)
@pytest.mark.parametrize(("kind", "num_threads"), FROM_SHARDS)
def test_a_damaged_image_is_named_with_its_shard(shards, kind, num_threads):
    named = damage_image(shards, 20)
    with pytest.raises(UserError, match=f"^[^\n]*{named}[^\n]*$"):
        list(build_loader(kind, shards, "train", InputSpec(SIZE), 2, num_threads=num_threads).epoch(0))


@pytest.mark.parametrize(("kind", "num_threads"), STREAMING)
def test_a_tar_cut_short_ends_the_epoch_it_is_read_in(shards, kind, num_threads):
    tar = train_tar(shards)
    loader = build_loader(kind, shards, "train", FLIPPED, 2, num_threads=num_threads)
    whole, size = epoch_of(loader), tar.stat().st_size
    batches = loader.epoch(0)
    next(batches)
    os.truncate(tar, size - 512)  # zeros, which no batch is waiting for
    with pytest.raises(UserError, match=rf"{tar.name}: \d+ bytes, the manifest says \d+; restore it"):
        list(batches)
    os.truncate(tar, size)
    assert_equal_epochs(epoch_of(loader), whole)


@pytest.mark.parametrize(("kind", "num_threads"), STREAMING)
def test_a_tar_cut_in_half_between_epochs_does_not_end_the_process(shards, kind, num_threads):
    tar = train_tar(shards)
    loader = build_loader(kind, shards, "train", FLIPPED, 2, num_threads=num_threads)
    list(loader.epoch(0))
    os.truncate(tar, tar.stat().st_size // 2)
    with pytest.raises(UserError, match=rf"{tar.name}: \d+ bytes, the manifest says \d+; restore it"):
        list(loader.epoch(1))


@pytest.mark.parametrize(("kind", "num_threads"), FROM_SHARDS)
def test_an_epoch_outlives_the_files_it_is_read_from(shards, kind, num_threads):
    settings = {"batch_size": 2, "shuffle": True, "num_threads": num_threads}
    loader = build_loader(kind, shards, "train", FLIPPED, **settings)
    whole = epoch_of(loader, 1)
    next(loader.epoch(1))
    train_tar(shards).unlink()
    assert_equal_epochs(epoch_of(loader, 1), whole)
    with pytest.raises(UserError, match="train-00000.tar: No such file or directory; restore the file"):
        build_loader(kind, shards, "train", FLIPPED, **settings)


def test_workers_do_not_collect_a_dali_pipeline_that_died_here(shards, monkeypatch):
    """Collected in a forked worker, it would end the worker by a segmentation fault."""
    gc.disable()
    try:
        loader = build_loader("dali", shards, "train", FLIPPED, 2, num_threads=2)
        next(loader.epoch(0))
        loader.itself = loader  # only the collector can free it
        del loader
        image = Fold.image
        monkeypatch.setattr(Fold, "image", lambda fold, position: (gc.collect(), image(fold, position))[1])
        workers = build_loader("pil-shards", shards, "train", FLIPPED, 2, num_threads=2)
        assert len(list(workers.epoch(0))) == workers.num_batches
    finally:
        gc.enable()


def test_an_index_of_other_shards_is_refused(shards):
    shutil.copy(shards / "test-00000.idx", shards / "train-00000.idx")
    with pytest.raises(UserError, match="train-00000.idx: not the index that was packed; restore the file"):
        train_fold(shards)


@pytest.fixture
def unsafe(tmp_path: Path) -> Path:
    """Shards of which the test may damage the originals."""
    images, labels = write_nih(tmp_path)
    pack_tiny(tmp_path / "shards", images, labels, size=SIZE, codec="png")
    return tmp_path / "shards"


def test_a_missing_original_is_named_when_the_pil_loader_is_built(unsafe):
    gone = Path(train_fold(unsafe).table["path"].iloc[0])
    gone.unlink()
    with pytest.raises(UserError, match=gone.name):
        build_loader("pil", unsafe, "train", InputSpec(SIZE), 2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_original_that_is_lost_or_damaged_in_mid_epoch_is_named(unsafe, num_workers):
    files = [Path(path) for path in train_fold(unsafe).table["path"]]
    loader = build_loader("pil", unsafe, "train", InputSpec(SIZE), 2, num_threads=num_workers)
    whole = files[-1].read_bytes()
    for damaged in (b"", whole[:200], whole[:60] + bytes(60) + whole[120:], None):
        files[-1].write_bytes(damaged) if damaged is not None else files[-1].unlink()
        with pytest.raises(UserError, match=f"^{files[-1]}: [^\n]+; restore the original[^\n]*$"):
            list(loader.epoch(0))


@pytest.mark.parametrize("kind", ["dali", "resident", "pil", "pil-shards"])
def test_training_on_a_damaged_image_ends_in_one_line(unsafe, tmp_path, monkeypatch, capsys, kind):
    damage_image(unsafe, 5)
    original = Path(train_fold(unsafe).table["path"].iloc[5])
    original.write_bytes(original.read_bytes()[:200])
    options = f"--loader {kind} --num-threads 1 --no-pretrained --device cpu --batch-size 28 --size 64".split()
    monkeypatch.setattr(sys, "argv", ["chexnet-fast", "train", str(unsafe), str(tmp_path / "run"), *options])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    said = capsys.readouterr().err
    assert original.name in said.splitlines()[-1]
    assert said.count("chexnet-fast: ") == 1
    assert "Traceback" not in said
