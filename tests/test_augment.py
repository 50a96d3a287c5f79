"""What augmentations do to pixels, and that nothing but seed, epoch and place decides it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nvidia.dali import Pipeline, fn, types
from PIL import Image, ImageEnhance, ImageFilter
from tiny_nih import pack_tiny, write_nih

from chexnet_fast.contact_sheet import draw_contact_sheet
from pipelines.augment import AUGMENTATIONS, CHEXPHOTO, num_draws, parse_augment, step_inputs
from pipelines.build import build_loader
from pipelines.geometry import CORNERS, TILES, border_error, crop, rotation, tile_matrices, tile_side, tilt
from pipelines.operators import augment, resize_packed
from pipelines.overlays import MOIRE_LINES, moire_overlays
from pipelines.spec import InputSpec
from shards.codec import fit_image
from shards.errors import UserError

SIZE = 24
SIDE = 224
VARIED = ("standard", "chexphoto-digital", "chexphoto-glare-glossy-2", "chexphoto-glare-matte-2", "chexphoto-tilt-3")


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> dict[str, Path]:
    """The same 40 images, raw and jpeg of 24 pixels, and png of their own 40."""
    folder = tmp_path_factory.mktemp("nih")
    images, labels = write_nih(folder)
    pack_tiny(folder / "raw", images, labels)
    pack_tiny(folder / "jpeg", images, labels, codec="jpeg")
    pack_tiny(folder / "original", images, labels, codec="png", size=None)
    return {name: folder / name for name in ("raw", "jpeg", "original")}


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A smooth grey picture, bright in the middle and dark at the corners, with structure of 10 pixels."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = 110 + 60 * np.sin(2 * np.pi * 9 * x) * np.sin(2 * np.pi * 7 * y)
    return Image.fromarray((waves * (1.2 - (x - 0.5) ** 2 - (y - 0.5) ** 2)).clip(0, 255).astype(np.uint8))


def run(graph, *arrays: np.ndarray) -> np.ndarray:
    """The first sample that a graph makes of inputs of a batch of one."""
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        images = fn.external_source(name="images", layout="HWC")
        nodes = [fn.external_source(name=str(index)) for index, _ in enumerate(arrays[1:])]
        pipeline.set_outputs(graph(images, nodes))
    pipeline.build()
    pipeline.feed_input("images", arrays[0][None, ..., None])
    for index, array in enumerate(arrays[1:]):
        pipeline.feed_input(str(index), array[None])
    (outputs,) = pipeline.run()
    return np.array(outputs.at(0))[..., 0]


def augmented(name: str, image: Image.Image, draws: list[float]) -> np.ndarray:
    """What an augmentation makes of an image with given draws, as integers."""
    steps = parse_augment(name, image.width)
    assert num_draws(steps) == len(draws)
    inputs = [values[0] for values in step_inputs(steps, np.array([draws]))]
    return run(lambda images, nodes: augment(images, steps, nodes, image.width), np.array(image), *inputs).astype(int)


def resized(image: np.ndarray, size: int, packed_size: int | None = None) -> np.ndarray:
    shape = types.Constant(np.array(image.shape))
    return run(lambda images, nodes: resize_packed(images, shape, packed_size, size), image).astype(int)


def epoch_of(shards: Path, name: str, **settings) -> torch.Tensor:
    spec = InputSpec(SIZE, flip=0.5, augment=name)
    loader = build_loader("dali", shards, "train", spec, settings.pop("batch_size", 7), shuffle=True, **settings)
    return torch.cat([batch.images.clone() for batch in loader.epoch(2)])


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
@pytest.mark.parametrize("name", [*VARIED, "chexphoto-photographic"])
def test_threads_change_no_pixel_and_epochs_do(packed, codec, name):
    one, four = (epoch_of(packed[codec], name, num_threads=threads) for threads in (1, 4))
    assert torch.equal(one, four)
    assert not torch.equal(one, epoch_of(packed[codec], name, seed=1))


@pytest.mark.parametrize("name", VARIED)
def test_an_augmented_epoch_can_be_entered_in_the_middle(packed, name):
    loader = build_loader("dali", packed["raw"], "train", InputSpec(SIZE, augment=name), 6, seed=3, shuffle=True)
    whole = [batch.images.clone() for batch in loader.epoch(4)]
    rest = [batch.images.clone() for batch in loader.epoch(4, first_batch=2)]
    assert all(torch.equal(one, other) for one, other in zip(whole[2:], rest, strict=True))


def test_ranks_draw_what_one_rank_would(packed):
    ranks = [epoch_of(packed["raw"], "standard", batch_size=3, rank=rank, num_ranks=2) for rank in (0, 1)]
    one = epoch_of(packed["raw"], "standard", batch_size=6)
    shared = torch.cat([part for pair in zip(*(rank.split(3) for rank in ranks), strict=True) for part in pair])
    assert torch.equal(shared, one)


@pytest.mark.parametrize(
    ("name", "enhance", "factor"),
    [
        ("chexphoto-brightness-up-2", ImageEnhance.Brightness, 1.4),
        ("chexphoto-brightness-down-4", ImageEnhance.Brightness, 1 / 2.6),
        ("chexphoto-contrast-up-4", ImageEnhance.Contrast, 1.8),
        ("chexphoto-contrast-down-1", ImageEnhance.Contrast, 1 / 1.2),
    ],
)
def test_tones_are_pillows(picture, name, enhance, factor):
    expected = np.array(enhance(picture).enhance(factor)).astype(int)
    assert np.abs(augmented(name, picture, []) - expected).max() <= 1


def test_the_digital_set_changes_contrast_then_brightness(picture):
    expected = ImageEnhance.Brightness(ImageEnhance.Contrast(picture).enhance(1.1)).enhance(1 / 1.2)
    assert np.abs(augmented("chexphoto-digital", picture, [0.2, 0.7]) - np.array(expected).astype(int)).max() <= 2


@pytest.mark.parametrize(("level", "radius"), [(1, 1.5), (2, 3), (3, 6), (4, 10)])
def test_blur_is_scaled_from_the_original_to_the_image(picture, level, radius):
    expected = np.array(picture.filter(ImageFilter.GaussianBlur(radius * SIDE / 1024))).astype(int)
    assert np.abs(augmented(f"chexphoto-blur-{level}", picture, []) - expected).max() <= 5  # Pillow's is three boxes


def test_motion_spreads_a_pixel_over_the_scaled_length():
    image = Image.fromarray(np.where(np.arange(256) == 128, 200, 0).astype(np.uint8)[None].repeat(256, axis=0))
    row = augmented("chexphoto-motion-4", image, [])[100]  # 45 pixels of 1024 are 11.25 of 256
    assert np.flatnonzero(row).tolist() == list(range(122, 135))
    assert row[124:133].tolist() == [18] * 9  # 200 / 11.25; the ends of the path are interpolated


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.9])
def test_rotation_is_pillows(picture, draw):
    degrees = 15 * (2 * draw - 1)
    expected = np.array(picture.rotate(degrees, Image.Resampling.BILINEAR)).astype(int)
    inner = np.s_[40:-40, 40:-40]
    assert np.abs(augmented("chexphoto-rotation-3", picture, [draw]) - expected)[inner].max() <= 2


def test_translation_moves_by_scaled_pixels_onto_black():
    image = Image.fromarray(np.random.default_rng(0).integers(1, 255, (256, 256), np.uint8))
    moved = augmented("chexphoto-translation-4", image, [1.0, 0.5])  # 80 pixels of 1024 are 20 of 256, to the right
    assert not moved[:, :20].any()
    assert np.array_equal(moved[:, 20:], np.array(image)[:, :-20])


@pytest.mark.parametrize("level", [1, 4])
def test_tilt_is_pillows_perspective(picture, level):
    draws = np.random.default_rng(level).random(8)
    corners = CORNERS + (1 - 2 * CORNERS) * 0.05 * level * draws.reshape(4, 2)
    matrix = np.diag([SIDE, SIDE, 1]) @ tilt(corners[None])[0] @ np.diag([1 / SIDE, 1 / SIDE, 1])
    coefficients = (matrix / matrix[2, 2]).ravel()[:8]
    size = (SIDE, SIDE)
    expected = picture.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    difference = np.abs(augmented(f"chexphoto-tilt-{level}", picture, draws.tolist()) - np.array(expected).astype(int))
    assert difference[60:-60, 60:-60].max() <= 4 * level


def test_matte_glare_is_a_white_bell_cut_off_at_its_ceiling():
    image = Image.new("L", (SIDE, SIDE), 40)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    sigma = 50 * 3 * SIDE / 1024
    bell = 300 * np.exp(-((x - 0.25 * SIDE) ** 2 + (y - 0.5 * SIDE) ** 2) / (2 * sigma**2))
    expected = 40 + 215 * np.minimum(bell, 210) / 255
    assert np.abs(augmented("chexphoto-glare-matte-3", image, [0.25, 0.5]) - expected).max() <= 0.51


@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [(0, slice(0, 50), slice(0, 50)), (4, slice(75, 125), slice(75, 125)), (8, slice(150, 200), slice(150, 200))],
)
def test_glossy_glare_is_a_rectangle_of_two_tenths_and_a_bit(place, rows, columns):
    glare = augmented("chexphoto-glare-glossy-2", Image.new("L", (200, 200), 0), [place / 9 + 0.01, 1, 1, 0.5, 0.5, 0])
    assert (glare[rows, columns] == 190).all()
    assert glare.sum() == 190 * 50 * 50


def test_exposure_is_the_sigmoid_of_gain_5():
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    expected = 255 / (1 + np.exp(5 * (0.5 - np.arange(256) / 255)))
    assert np.abs(augmented("chexphoto-exposure-1", ramp, []).ravel() - expected).max() <= 0.5


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_moire_darkens_by_its_two_fans_of_lines(level):
    gap, opacity = MOIRE_LINES[level]
    overlays = moire_overlays(level, 64, 256)
    assert overlays.mean() == pytest.approx(255 * (1 - opacity / (1 + gap)) ** 2, abs=1.5)
    assert len(np.unique(overlays.reshape(len(overlays), -1), axis=0)) == len(overlays)


def test_none_and_identity_leave_every_pixel(picture):
    for name in ("none", "chexphoto-identity-4"):
        assert np.array_equal(augmented(name, picture, []), np.array(picture))


@given(draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=7, max_size=7))
def test_standard_shows_no_less_than_seven_tenths_of_the_image_and_turns_by_7_degrees(draws):
    (matrices, _, _) = step_inputs(parse_augment("standard", SIDE), np.array([draws]))
    assert 0.65 <= np.linalg.det(matrices[0, 0, :, :2]) <= 1.0001
    assert np.abs(np.degrees(np.arctan2(matrices[..., 1, 0], matrices[..., 0, 0]))).max() <= 7.001


@given(left=st.floats(0, 0.3), width=st.floats(0.3, 1), degrees=st.floats(-180, 180), size=st.integers(1, 300))
def test_tiles_of_an_affine_map_join_without_a_seam(left, width, degrees, size):
    spans = [np.array([value]) for value in (left, 0.1, width, 0.8)]
    maps = rotation(np.array([degrees])) @ crop(*spans)
    matrices = tile_matrices(maps, size)[0].reshape(TILES, TILES, 2, 3)
    place = np.array([0.5, 0.5, 1])
    for row, column in ((0, 0), (3, 5), (7, 7)):
        x, y = (tile_side(size) * tile + 0.5 for tile in (column, row))
        expected = maps[0] @ [x / size, y / size, 1]
        assert matrices[row, column] @ place == pytest.approx(expected[:2] * size, abs=1e-3)


def test_tilt_takes_the_quadrilateral_to_the_whole_image():
    corners = np.array([[[0.1, 0.2], [0.9, 0.0], [0.8, 1.0], [0.0, 0.7]]])
    mapped = np.einsum("ij,nj->ni", tilt(corners)[0], np.c_[corners[0], np.ones(4)])
    assert mapped[:, :2] / mapped[:, 2:] == pytest.approx(CORNERS)


@pytest.mark.parametrize(
    "name", ["chexphoto", "chexphoto-blur", "chexphoto-blur-5", "chexphoto-blur-1-2", "photo-blur-1"]
)
def test_an_unknown_augmentation_is_quoted_with_the_known_ones(name):
    with pytest.raises(UserError, match=rf"--augment {name}: choose none, standard, .* blur, motion"):
        InputSpec(SIZE, augment=name)


def test_every_augmentation_and_level_has_a_name():
    names = [*AUGMENTATIONS, *(f"chexphoto-{transform}-{level}" for transform in CHEXPHOTO for level in (1, 2, 3, 4))]
    assert len(names) == 60
    assert all(InputSpec(SIZE, augment=name).augment == name for name in names)


def test_the_pil_loader_says_that_it_does_not_augment(packed):
    with pytest.raises(UserError, match="--augment standard: .* choose --loader dali"):
        build_loader("pil", packed["raw"], "train", InputSpec(SIZE, augment="standard"), 4)


@pytest.mark.parametrize(
    "shape",
    [(256, 256), (64, 64), (150, 97), (97, 150), (65, 64), (64, 67), (64, 69), (20, 30), (63, 64), (3, 5), (640, 64)],
)
def test_resizing_is_pillows_to_a_grey_level_border_included(shape):
    image = np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)
    expected = np.array(fit_image(Image.fromarray(image), 64)).astype(int)
    assert np.abs(resized(image, 64) - expected).max() <= 1


@pytest.mark.parametrize(("side", "size"), [(256, 224), (72, 64), (56, 64), (64, 64)])
def test_plain_resizing_keeps_its_promise_at_the_border(side, size):
    steps = np.zeros((side, side), np.uint8)
    steps[1:-1, 1:-1] = 255  # a black frame of one pixel about white: the worst case
    expected = np.array(fit_image(Image.fromarray(steps), size)).astype(int)
    difference = np.abs(resized(steps, size, packed_size=side) - expected)
    assert difference[2:-2, 2:-2].max() <= 1
    assert difference[2:-2].max() <= border_error(side, size) + 1


@pytest.mark.parametrize(
    ("side", "size", "error"),
    # 256 to 224: the first pixel weighs 15/18 of its triangle's inner part, and 16/19 of the whole where it is repeated
    [(64, 64, 0), (56, 64, 0), (256, 224, 255 * (16 / 19 - 15 / 18))],
)
def test_the_border_error_is_the_largest_difference_of_the_two_triangles(side, size, error):
    assert border_error(side, size) == pytest.approx(error, abs=1e-9)


def test_shards_of_another_size_are_resized_as_the_reference_resizes_the_originals(packed):
    dali, pil = (
        torch.cat([batch.images.int() for batch in build_loader(kind, packed["original"], "train", spec, 9).epoch(0)])
        for kind, spec in (("dali", InputSpec(SIZE)), ("pil", InputSpec(SIZE)))
    )
    assert (dali - pil).abs().max() <= 1


@pytest.mark.real
def test_real_originals_are_resized_to_a_grey_level(nih, tmp_path):
    (tmp_path / "images").mkdir()
    for file in sorted((nih / "images").iterdir())[::10]:
        (tmp_path / "images" / file.name).symlink_to(file)
    labels = nih / "Data_Entry_2017_v2020.csv.gz"
    pack_tiny(tmp_path / "shards", tmp_path / "images", labels, codec="png", size=None)
    dali, pil = (
        torch.cat(
            [batch.images.int() for batch in build_loader(kind, tmp_path / "shards", "train", InputSpec(), 4).epoch(0)]
        )
        for kind in ("dali", "pil")
    )
    assert (dali - pil).abs().max() <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*VARIED, "chexphoto-photographic", "chexphoto-blur-4", "chexphoto-exposure-1"])
@pytest.mark.parametrize("codec", ["raw", "original"])
def test_the_gpu_augments_as_the_cpu_does(packed, name, codec):
    cpu, gpu = (epoch_of(packed[codec], name, device=device).cpu().int() for device in ("cpu", "cuda"))
    assert (gpu - cpu).abs().max() <= 3  # a level or two of resizing, which contrast stretches


def test_a_contact_sheet_is_one_picture_of_originals_and_draws(packed, tmp_path):
    path = draw_contact_sheet(packed["raw"], "standard", tmp_path / "sheets", seed=1)
    again = draw_contact_sheet(packed["raw"], "standard", tmp_path / "again", seed=1)
    other = draw_contact_sheet(packed["raw"], "standard", tmp_path / "other", seed=2)
    assert path == tmp_path / "sheets" / "standard.png"
    sheets = [np.array(Image.open(sheet)) for sheet in (path, again, other)]
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[0], sheets[2])
    half = slice(0, sheets[0].shape[1] // 6)  # the column of originals
    assert np.array_equal(sheets[0][:, half], sheets[2][:, half])
