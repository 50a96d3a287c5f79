"""What each codec costs at each size: bytes, difference to the reference's pixels, time."""

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision import transforms

from bench.rows import read_values, write_rows
from chexnet_fast.environment import describe_environment
from shards.codec import BadImageError, decode_image, encode_image, fit_image
from shards.datasets.registry import file_name
from shards.encoding import read_image
from shards.errors import UserError
from shards.files import whole_file
from shards.sources import find_sources

CODECS = (("raw", None), ("png", None), ("jpeg", 95))
"""Each codec and its quality: packing's default."""
SIZES = (224, 256, 512, None)
"""Sides of the packed images in pixels; None keeps the original one."""


@dataclass(frozen=True)
class CodecRow:
    """A codec at a size, over `num_images` images.

    Args:
        codec: raw, png or jpeg.
        quality: of JPEG.
        size: the side in pixels; None for the original's.
        num_images: how many images were measured.
        bytes_per_image: their mean.
        mean_difference: from the reference's pixels, over all pixels, in grey levels of 255.
        largest_difference: the largest of these.
        encode_ms: CPU time of encoding the resized pixels, the mean.
        decode_ms: CPU time of decoding them again as packing and `verify` do, the mean.
    """

    codec: str
    quality: int | None
    size: int | None
    num_images: int
    bytes_per_image: float
    mean_difference: float
    largest_difference: int
    encode_ms: float
    decode_ms: float


@dataclass(frozen=True)
class _Sample:
    """One image in one codec; times in seconds, `difference` summed over `num_pixels`."""

    num_bytes: int
    num_pixels: int
    difference: int
    largest: int
    encode: float
    decode: float


def bench_codecs(images: Path, out: Path) -> list[CodecRow]:
    """Encode the image files below a folder in each of CODECS at each of SIZES, in one process.

    Args:
        images: the folder of the original files.
        out: the folder for codecs.jsonl and codecs.md.

    Returns:
        A row for each codec and size.

    Raises:
        UserError: if no image is found, or one cannot be decoded.
    """
    cases = [(codec, quality, size) for size in SIZES for codec, quality in CODECS]
    samples: dict[tuple[str, int | None, int | None], list[_Sample]] = {case: [] for case in cases}
    for file in find_sources([images], file_name).files.values():
        image = _decoded(file)
        for size in SIZES:
            fitted = image if size is None else fit_image(image, size)
            reference = _reference_pixels(file, size)
            for codec, quality in CODECS:
                samples[codec, quality, size].append(_measure(fitted, reference, codec, quality))
    rows = [_row(*case, measured) for case, measured in samples.items()]
    out.mkdir(parents=True, exist_ok=True)
    write_rows(rows, {**describe_environment(), "command": shlex.join(sys.argv)}, out / "codecs.jsonl")
    with whole_file(out / "codecs.md") as temporary:
        temporary.write_text(format_codecs(rows), encoding="utf-8")
    return rows


def read_codecs(path: Path) -> tuple[list[CodecRow], dict]:
    """Read codecs.jsonl: the rows, and their environment."""
    values, environment = read_values(path)
    return [CodecRow(**value) for value in values], environment


def format_codecs(rows: list[CodecRow]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| size | codec | bytes an image | difference: mean, largest | encode, ms | decode, ms |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    return "\n".join([*lines, *map(_format_row, rows)]) + "\n"


def _format_row(row: CodecRow) -> str:
    codec = row.codec if row.quality is None else f"{row.codec}, quality {row.quality}"
    difference = f"{row.mean_difference:.2f}, {row.largest_difference}" if row.largest_difference else "0"
    return (
        f"| {row.size or 'original'} | {codec} | {row.bytes_per_image:,.0f} | {difference} | {row.encode_ms:.2f} | "
        f"{row.decode_ms:.2f} |"
    )


def _decoded(file: str) -> Image.Image:
    try:
        return decode_image(read_image(file))
    except BadImageError as error:
        raise UserError(f"{file}: {error}; take it out") from error


def _reference_pixels(file: str, size: int | None) -> np.ndarray:
    """Return reproduce-chexnet's pixels of an image, (H, W, 3) uint8."""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    if size is not None:
        image = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])(image)
    return np.asarray(image)


def _measure(image: Image.Image, reference: np.ndarray, codec: str, quality: int | None) -> _Sample:
    start = time.process_time()
    data = encode_image(image, codec, quality)
    middle = time.process_time()
    decoded = Image.frombytes("L", image.size, data) if codec == "raw" else decode_image(data)
    end = time.process_time()
    difference = np.abs(np.asarray(decoded, np.int16)[..., None] - reference)
    return _Sample(
        len(data), difference.size, int(difference.sum()), int(difference.max()), middle - start, end - middle
    )


def _row(codec: str, quality: int | None, size: int | None, samples: list[_Sample]) -> CodecRow:
    return CodecRow(
        codec,
        quality,
        size,
        num_images=len(samples),
        bytes_per_image=float(np.mean([sample.num_bytes for sample in samples])),
        mean_difference=sum(sample.difference for sample in samples) / sum(sample.num_pixels for sample in samples),
        largest_difference=max(sample.largest for sample in samples),
        encode_ms=1000 * float(np.mean([sample.encode for sample in samples])),
        decode_ms=1000 * float(np.mean([sample.decode for sample in samples])),
    )
