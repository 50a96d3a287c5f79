"""The ladder measures every rung on the same images, and peers yield the images that they were given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_nih import pack_tiny, write_nih

from bench import cases, loaders, peers
from bench.loaders import BATCH_SIZES, bench_loaders
from bench.peers import PEERS, Peer
from bench.peers.source import Source
from bench.rows import Row, read_rows
from pipelines.spec import InputSpec
from shards.errors import UserError
from shards.fold import Fold, open_fold
from shards.manifest import read_manifest

SIZE = 24
OUTPUTS = ["RGB float32", "grey float32", "grey uint8"]
BATCH_SIZE = BATCH_SIZES["cpu"]
ABSENT = Peer("Nothing", "nothing", "nothing", PEERS[0].decoder, ("raw", "jpeg"))


@pytest.fixture(scope="module")
def nih(tmp_path_factory) -> Path:
    """Images and labels, and the same images packed twice."""
    folder = tmp_path_factory.mktemp("nih")
    images, labels = write_nih(folder)
    pack_tiny(folder / "raw", images, labels, size=SIZE)
    pack_tiny(folder / "jpeg", images, labels, size=32, codec="jpeg")
    return folder


@pytest.fixture(scope="module")
def rows(nih, tmp_path_factory) -> list[Row]:
    out = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaders, "NUM_ROUNDS", 1)
        patch.setattr(cases, "EPOCH_IMAGES", 16 * BATCH_SIZE)
        patch.setattr(cases, "RESIDENT_IMAGES", 2 * BATCH_SIZE)
        patch.setattr(cases, "LIMIT_BYTES", 1 << 20)
        patch.setattr(peers, "PEERS", (PEERS[0], ABSENT))
        measured = bench_loaders(
            nih / "images", [nih / "raw", nih / "jpeg"], out, num_workers=1, peers=True, seconds=0.01
        )
    assert read_rows(out / "loaders.jsonl")[0] == measured
    assert {path.name for path in out.iterdir()} == {"loaders.jsonl", "loaders.md", "loaders.png", "loaders.html"}
    return measured


def test_the_ladder_goes_from_the_reference_to_the_limit(rows):
    assert (rows[0].family, rows[0].input, rows[0].output, rows[0].ratio) == ("reference", "files", "RGB float32", 1)
    rungs = [(row.loader, row.input) for row in rows if row.rate is not None]
    assert list(dict.fromkeys(rungs)) == [
        ("PIL DataLoader, originals", "files"),
        ("torchvision.io", "jpeg 32"),
        ("PIL DataLoader, shards", "raw 24"),
        ("DALI cpu", "raw 24"),
        ("PIL DataLoader, shards", "jpeg 32"),
        ("DALI cpu", "jpeg 32"),
        ("resident cpu", "raw 24"),
        ("memory copy", ""),
    ]


def test_ours_and_the_limit_are_measured_for_every_output(rows):
    for loader in ("DALI cpu", "resident cpu", "memory copy"):
        assert {row.output for row in rows if row.loader == loader} == set(OUTPUTS)
    assert [row.share for row in rows if row.family == "limit"] == [1.0] * len(OUTPUTS)


def test_a_peer_that_is_not_there_has_a_row_that_says_so(rows):
    notes = {row.loader: row.note for row in rows if row.rate is None}
    assert notes["Nothing"] == "not installed (No module named 'bench.peers.nothing')"
    assert "OpenCV" in notes["FFCV"]


def test_shards_of_other_images_are_refused(nih, tmp_path):
    images, labels = write_nih(tmp_path, num_patients=10)
    pack_tiny(tmp_path / "other", images, labels)
    with pytest.raises(UserError, match="other: not the training images of .*raw; pack both with the same"):
        bench_loaders(nih / "images", [nih / "raw", tmp_path / "other"], tmp_path / "out", num_workers=1)


def test_an_original_that_is_missing_is_named(nih, tmp_path):
    with pytest.raises(UserError, match=r"00000\d\d\d_00\d.png: not there, but its image is in the shards"):
        bench_loaders(tmp_path, [nih / "raw"], tmp_path / "out", num_workers=1)


def _batch_of(peer: Peer, fold: Fold, folder: Path, spec: InputSpec) -> torch.Tensor:
    module = pytest.importorskip(f"bench.peers.{peer.module}", exc_type=ImportError)
    module.prepare(fold, folder)
    source = Source(fold, folder, spec, peer.decoder(fold.manifest, spec), BATCH_SIZE, num_workers=1, seed=0)
    return next(module.stream(source))


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_yields_the_images_of_the_fold(peer, nih, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.peers.source.PREPARED_IMAGES", BATCH_SIZE)
    folder = nih / ("raw" if "raw" in peer.codecs else "jpeg")
    fold = open_fold(folder, read_manifest(folder), "train")
    size = fold.manifest.raw_side if fold.manifest.codec == "raw" else fold.manifest.size
    images = _batch_of(peer, fold, tmp_path, InputSpec(size))
    assert images.shape == (BATCH_SIZE, 1, size, size)
    packed = np.stack([np.asarray(fold.image(position)) for position in range(len(fold))]).astype(int)
    differences = [np.abs(packed - image[0].numpy()).max(axis=(1, 2)).min() for image in images]
    assert max(differences) <= (0 if fold.manifest.codec == "raw" else 2)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_normalises_rgb_as_the_reference_does(peer, nih, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.peers.source.PREPARED_IMAGES", BATCH_SIZE)
    folder = nih / "jpeg"
    fold = open_fold(folder, read_manifest(folder), "train")
    images = _batch_of(peer, fold, tmp_path, InputSpec(20, channels=3, dtype="float32"))
    assert images.shape == (BATCH_SIZE, 3, 20, 20)
    levels = images * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) + torch.tensor([0.485, 0.456, 0.406]).view(
        3, 1, 1
    )
    torch.testing.assert_close(levels[:, 0], levels[:, 2], rtol=0, atol=0.01)
    assert 0 <= levels.min() < 0.3 and 0.7 < levels.max() <= 1
