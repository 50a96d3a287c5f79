"""How each image of a packing is read and encoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from shards.codec import BadImageError, decode_image, pack_images
from shards.errors import BadInputError

MAX_BYTES = 1 << 28
"""The most bytes of an image file, four times MAX_PIXELS: no 8-bit grey image needs more."""


@dataclass(frozen=True)
class Encoding:
    """A packing's codec and size; `same_size` says that every image must be `size` x `size` already."""

    codec: str
    size: int | None
    quality: int | None
    same_size: bool


def check_file_size(num_bytes: int) -> None:
    """Raise BadImageError if an image file is too large to be read into memory."""
    if num_bytes > MAX_BYTES:
        raise BadImageError(f"{num_bytes:,} bytes: more than {MAX_BYTES:,}")


def read_image(path: str) -> bytes:
    """Read an image file.

    Raises:
        BadImageError: if it cannot be read or is too large.
    """
    file = Path(path)
    try:
        check_file_size(file.stat().st_size)
        return file.read_bytes()
    except OSError as error:
        raise BadImageError(error.strerror or str(error)) from error


def packed_bytes(files: Sequence[tuple[str, bytes]], encoding: Encoding) -> list[bytes]:
    """Turn image files, as path and bytes, into samples' bytes; GROUP files at a time are fastest.

    Raises:
        BadImageError: if an image cannot be packed.
        BadInputError: if one is not of the size that it must have.
    """
    images = [_decoded(path, data, encoding) for path, data in files]
    return pack_images(images, encoding.codec, encoding.size, encoding.quality)


def _decoded(path: str, data: bytes, encoding: Encoding) -> Image.Image:
    image = decode_image(data)
    size = encoding.size
    if encoding.same_size and image.size != (size, size):
        raise BadInputError(
            f"{path}: {image.width} x {image.height} pixels, but raw shards of original size need {size} x {size} "
            f"everywhere: use --codec png, or --size {size}"
        )
    return image
