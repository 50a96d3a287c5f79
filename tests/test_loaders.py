"""What every loader promises, on real pipelines over tiny shards."""

import numpy as np
import pytest
import torch
from epochs import CODECS, FLIPPED, SIZE, assert_equal_epochs, epoch_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from pipelines.build import build_loader
from pipelines.resident import gather
from pipelines.spec import DTYPES, InputSpec
from shards.errors import UserError
from shards.fold import open_fold
from shards.manifest import read_manifest
from shards.pack import pack

TOLERANCES = {"uint8": (0, 0), "float32": (0, 1e-6), "float16": (2**-10, 1e-6), "bfloat16": (2**-7, 1e-6)}
"""How far a value may be from the reference's, relatively and absolutely: 16 bits may differ in the last one."""


@pytest.mark.parametrize("kind", ["dali", "resident", "pil-shards"])
@pytest.mark.parametrize("codec", ["raw", "png"])
def test_loaders_yield_the_pil_references_bits(packed, codec, kind):
    loader, reference = (
        build_loader(kind, packed[codec], "train", FLIPPED, 8, seed=5, shuffle=True, num_threads=2)
        for kind in (kind, "pil")
    )
    for epoch in (0, 3):
        assert_equal_epochs(epoch_of(loader, epoch), epoch_of(reference, epoch))


@pytest.mark.parametrize("kind", ["dali", "resident", "pil-shards"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_every_loader_yields_every_type_as_the_reference_does(packed, monkeypatch, device, dtype, channels, kind):
    monkeypatch.setattr("pipelines.resident.PART_IMAGES", 3)
    spec = InputSpec(SIZE, channels, dtype, flip=0.5)
    images, reference = (
        epoch_of(build_loader(kind, packed["raw"], "train", spec, 8, shuffle=True, device=device, num_threads=1))[0]
        for kind in (kind, "pil")
    )
    assert images.shape[1:] == (channels, SIZE, SIZE)
    rtol, atol = TOLERANCES[dtype]
    torch.testing.assert_close(images.cpu(), reference, rtol=rtol, atol=atol)


@given(st.integers(1, 3), st.integers(1, 70), st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=6))
def test_images_are_gathered_with_their_rows_from_right_to_left_where_flipped(height, width, draws):
    pixels = np.random.default_rng(width).integers(0, 256, (5, height, width), np.uint8)
    gathered = np.empty((len(draws), height, width), np.uint8)
    positions, flips = np.array(draws, int).reshape(-1, 2).T
    gather(pixels, positions, flips.astype(bool), into=gathered)
    for image, (position, is_flipped) in zip(gathered, draws, strict=True):
        assert np.array_equal(image, pixels[position][:, ::-1] if is_flipped else pixels[position])


def test_a_jpeg_is_decoded_as_pillow_decodes_it(packed):
    fold = open_fold(packed["jpeg"], read_manifest(packed["jpeg"]), "train")
    images, _, _ = epoch_of(build_loader("dali", packed["jpeg"], "train", InputSpec(SIZE), 8))
    expected = np.stack([np.array(fold.image(position)) for position in range(len(fold))])
    assert np.abs(images[:, 0].numpy().astype(int) - expected).max() <= 2


def test_evaluation_yields_the_fold_in_table_order_with_its_labels(packed):
    fold = open_fold(packed["raw"], read_manifest(packed["raw"]), "test")
    images, labels, rows = epoch_of(build_loader("dali", packed["raw"], "test", InputSpec(SIZE), 3))
    assert np.array_equal(rows, fold.rows)
    assert np.array_equal(labels.numpy(), fold.labels)
    resize = transforms.Compose([transforms.Resize(SIZE), transforms.CenterCrop(SIZE)])
    for image, path in zip(images, fold.table["path"], strict=True):
        expected = np.array(resize(Image.open(path).convert("RGB")))
        assert np.array_equal(image[0].numpy(), expected[..., 0])


@pytest.mark.parametrize("kind", ["dali", "resident", "pil"])
def test_batches_are_channels_last_and_the_last_one_is_short(packed, kind):
    batches = list(build_loader(kind, packed["raw"], "train", FLIPPED, 12, num_threads=1).epoch(0))
    num_images = read_manifest(packed["raw"]).counts["train"]
    assert [len(batch.rows) for batch in batches] == [12, 12, num_images - 24]
    for batch in batches:
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.images.dtype == torch.uint8


def test_a_fold_that_does_not_fit_into_memory_is_refused_with_the_numbers(packed, monkeypatch):
    monkeypatch.setattr("pipelines.resident._available_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"28 images of 24 x 24 pixels take 16,128 bytes, cpu memory has 1,000"):
        build_loader("resident", packed["raw"], "train", FLIPPED, 8)


def test_an_unknown_loader_and_an_empty_fold_are_named(packed):
    with pytest.raises(UserError, match="--loader numpy: choose one of dali, resident, pil, pil-shards"):
        build_loader("numpy", packed["raw"], "train", FLIPPED, 8)
    with pytest.raises(UserError, match="--batch-size 0: give at least 1"):
        build_loader("dali", packed["raw"], "train", FLIPPED, 0)
    with pytest.raises(UserError, match="fold 'holdout'"):
        build_loader("dali", packed["raw"], "holdout", FLIPPED, 8)


@pytest.mark.gpu
@pytest.mark.parametrize("codec", CODECS)
def test_the_gpu_graph_yields_the_cpu_graphs_pixels(packed, codec):
    cpu, gpu = (
        epoch_of(build_loader("dali", packed[codec], "train", FLIPPED, 8, seed=2, shuffle=True, device=device))
        for device in ("cpu", "cuda")
    )
    difference = (gpu[0].cpu().int() - cpu[0].int()).abs().max().item()
    assert difference <= (2 if codec == "jpeg" else 0)
    assert np.array_equal(gpu[2], cpu[2])


@pytest.mark.real
@pytest.mark.parametrize("codec", ["raw", "png"])
def test_real_images_are_the_references_to_the_bit(nih, tmp_path, codec):
    pack(
        tmp_path,
        "nih",
        [nih / "images"],
        nih / "Data_Entry_2017_v2020.csv.gz",
        ["patient"],
        codec=codec,
        progress=False,
    )
    dali, pil = (
        epoch_of(build_loader(kind, tmp_path, "train", InputSpec(224, flip=0.5), 16, seed=9, shuffle=True), 1)
        for kind in ("dali", "pil")
    )
    assert_equal_epochs(dali, pil)
