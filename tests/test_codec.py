import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_nih import png
from torchvision import transforms

from shards.codec import GROUP, BadImageError, decode_image, encode_image, fit_image, fit_images, pack_images


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int, channels: int | None = None, seed: int = 0) -> np.ndarray:
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def reference(data: bytes, size: int) -> np.ndarray:
    """reproduce-chexnet's pixels, of which the three channels are equal."""
    resize = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
    return np.asarray(resize(Image.open(io.BytesIO(data)).convert("RGB")))


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 130))
def test_fitting_is_torchvisions_resize_and_center_crop(height: int, width: int, size: int) -> None:
    image = Image.fromarray(noise(height, width))
    expected = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])(image)
    assert np.array_equal(np.asarray(fit_image(image, size)), np.asarray(expected))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=5),
    st.sampled_from([1, 3, 4, 5]),
    st.integers(1, 130),
)
def test_fitting_images_together_changes_none(shapes: list[tuple[int, int]], num_equal: int, size: int) -> None:
    shapes = [shape for shape in shapes for _ in range(num_equal)][:5]
    images = [Image.fromarray(noise(*shape, seed=seed)) for seed, shape in enumerate(shapes)]
    for group in (images, images[:4]):
        expected = [fit_image(image, size).tobytes() for image in group]
        assert [image.tobytes() for image in fit_images(group, size)] == expected


@pytest.mark.parametrize("codec", ["raw", "png"])
def test_raw_and_png_keep_the_reference_pixels(codec: str) -> None:
    data = png(1, 301)
    (packed,) = pack_images([decode_image(data)], codec, 64, None)
    pixels = (
        np.frombuffer(packed, np.uint8).reshape(64, 64)
        if codec == "raw"
        else np.asarray(Image.open(io.BytesIO(packed)))
    )
    assert (reference(data, 64) == pixels[..., None]).all()


def test_jpeg_is_grey_baseline_and_close() -> None:
    ramp = Image.fromarray(np.add.outer(np.arange(96), np.arange(96)).astype(np.uint8))
    (packed,) = pack_images([ramp], "jpeg", None, 95)
    image = Image.open(io.BytesIO(packed))
    assert (image.format, image.mode, image.size) == ("JPEG", "L", (96, 96))
    assert "progressive" not in image.info
    assert np.abs(np.asarray(image).astype(int) - np.asarray(ramp).astype(int)).max() <= 3
    assert len(encode_image(ramp, "jpeg", 50)) < len(packed)


GREY = noise(48, 48)
MODES = {
    "RGB": Image.fromarray(np.repeat(GREY[..., None], 3, 2)),
    "RGBA": Image.fromarray(np.dstack([GREY, GREY, GREY, noise(48, 48, seed=1)])),
    "LA": Image.fromarray(np.dstack([GREY, noise(48, 48, seed=1)]), "LA"),
    "P": Image.fromarray(GREY).convert("P"),
    "1": Image.fromarray(GREY).convert("1"),
}


@pytest.mark.parametrize("mode", MODES)
def test_other_modes_of_grey_give_the_reference_pixels(mode: str) -> None:
    data = encoded(MODES[mode])
    assert Image.open(io.BytesIO(data)).mode == mode
    pixels = np.asarray(fit_image(decode_image(data), 24))
    assert (reference(data, 24) == pixels[..., None]).all()


def test_unequal_channels_become_pillows_luma_before_resizing() -> None:
    image = Image.fromarray(noise(48, 48, 3))
    assert decode_image(encoded(image)).tobytes() == image.convert("L").tobytes()


def test_jpegs_of_any_kind_are_read_by_content_not_by_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    image = Image.fromarray(noise(40, 60))
    assert decode_image(encoded(image, "JPEG", exif=exif)).size == (60, 40)
    assert decode_image(encoded(image.convert("CMYK"), "JPEG")).mode == "L"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(side: int, depth: int, color_type: int, rows: bytes, interlaced: bool = False) -> bytes:
    """A PNG by its specification: Pillow writes neither all depths nor interlaced files."""
    header = struct.pack(">IIBBBBB", side, side, depth, color_type, 0, 0, interlaced)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


def png_rows(rows: np.ndarray) -> bytes:
    """The bytes of rows, each after the number of its filter, 0 for none."""
    return b"".join(b"\0" + row.tobytes() for row in rows)


ADAM7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
"""Each pass's first row, step of rows, first column and step of columns."""


def interlaced(pixels: np.ndarray) -> bytes:
    passes = [png_rows(pixels[row::row_step, column::column_step]) for row, row_step, column, column_step in ADAM7]
    return png_file(len(pixels), 8, 0, b"".join(passes), interlaced=True)


def bomb(side: int) -> bytes:
    return png_file(side, 8, 0, b"")


def with_broken_checksum(data: bytes) -> bytes:
    """Change the checksum of the pixels' chunk, which Pillow does not look at when it loads."""
    end = data.index(b"IDAT") + 4 + int.from_bytes(data[data.index(b"IDAT") - 4 :][:4], "big")
    return data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]


def test_an_interlaced_png_has_its_pixels() -> None:
    assert np.array_equal(np.asarray(decode_image(interlaced(GREY))), GREY)


@pytest.mark.parametrize("depth", [2, 4])
def test_few_bits_of_grey_are_spread_over_eight(depth: int) -> None:
    packed = noise(48, 48 * depth // 8)
    values = np.unpackbits(packed, axis=1).reshape(48, 48, depth) @ (1 << np.arange(depth)[::-1])
    image = decode_image(png_file(48, depth, 0, png_rows(packed)))
    assert np.array_equal(np.asarray(image), values * (255 // (2**depth - 1)))


GOOD = png(0)
BAD = {
    "empty": (b"", "empty file"),
    "text": (b"<html>404</html>", "not a PNG or JPEG"),
    "truncated": (GOOD[: len(GOOD) // 2], "Truncated"),
    "no end": (GOOD[:-12], "truncated"),
    "checksum": (with_broken_checksum(GOOD), "broken PNG file"),
    "bomb": (bomb(100_000), "100000 x 100000|decompression bomb"),
    "large": (bomb(9_000), "9000 x 9000 pixels"),
    "16 bit": (encoded(Image.fromarray(np.full((8, 8), 4000, np.uint16))), "8 bits"),
    "gif": (encoded(Image.fromarray(GREY), "GIF"), "not a PNG or JPEG"),
    "truncated jpeg": (encoded(Image.fromarray(GREY), "JPEG")[:-200], "truncated"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_a_bad_image_with_the_reason(kind: str) -> None:
    data, reason = BAD[kind]
    with pytest.raises(BadImageError, match=reason):
        decode_image(data)


def test_a_line_that_resizing_would_blow_up_is_refused() -> None:
    with pytest.raises(BadImageError, match="pixels: more than"):
        fit_image(Image.new("L", (60_000, 1)), 224)


def test_a_side_that_jpeg_cannot_hold_is_refused() -> None:
    with pytest.raises(BadImageError):
        encode_image(Image.new("L", (70_000, 1)), "jpeg", 95)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(["PNG", "JPEG"]), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8))
def test_damage_ends_in_pixels_or_in_a_bad_image(kind: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(encoded(Image.fromarray(GREY), kind))
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    try:
        (packed,) = pack_images([decode_image(bytes(data))], "raw", 16, None)
    except BadImageError as error:
        assert "\n" not in str(error) and "0x" not in str(error)
    else:
        assert len(packed) == 256


@pytest.mark.real
@pytest.mark.parametrize("num_together", [1, GROUP])
def test_raw_and_png_of_real_images_equal_the_reference_bit_for_bit(nih: Path, num_together: int) -> None:
    files = sorted((nih / "images").glob("*.png"))
    assert len(files) == 200
    for start in range(0, len(files), num_together):
        group = [file.read_bytes() for file in files[start : start + num_together]]
        images = fit_images([decode_image(data) for data in group], 224)
        for data, image in zip(group, images, strict=True):
            raw = np.frombuffer(encode_image(image, "raw", None), np.uint8).reshape(224, 224)
            assert (reference(data, 224) == raw[..., None]).all()
            assert np.asarray(Image.open(io.BytesIO(encode_image(image, "png", None)))).tobytes() == raw.tobytes()
