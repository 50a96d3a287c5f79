"""From an image file's bytes to a sample's bytes: decoding, resizing and encoding, as the reference does them."""

import io
import logging
import struct
import warnings
from collections.abc import Sequence

from imagecodecs import PngError, png_decode
from PIL import Image

FORMATS = ("PNG", "JPEG")
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
MAX_PIXELS = 1 << 26
"""The most pixels of a decoded or resized image: 8,192 x 8,192, four times a 4,096 x 4,096 detector's."""
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
"""A PNG's first bytes; width, height, depth and colour type follow."""
PNG_END = b"IEND\xaeB`\x82"
GROUP = 4
"""How many images are best fitted together: the channels of Pillow's widest mode."""
PNG_LEVEL = 3
"""zlib's level: at 224 pixels 12 % larger than Pillow's default of 6, and written in a third of its time."""

logging.getLogger("imagecodecs").setLevel(logging.ERROR)  # of what libpng warns, decode_image gives the reason


class BadImageError(Exception):
    """Say why an image cannot be packed; the message is rejects.csv's reason."""


def decode_image(data: bytes) -> Image.Image:
    """Decode a PNG or JPEG file to one grey channel of 8 bits.

    The pixels are those of `Image.open(file).convert("RGB")` where red, green and blue are equal, as in every
    X-ray; else Pillow's luma of them, `.convert("L")`. As there, transparency is dropped and EXIF's rotation ignored.

    Raises:
        BadImageError: if the data is empty, cut off or damaged (checksums are checked), no PNG or JPEG, larger than
            MAX_PIXELS, or of more than 8 bits a channel, which `convert("RGB")` would clip to white.
    """
    if not data:
        raise BadImageError("empty file")
    return _decode_grey_png(data) or decode_with_pillow(data)


def _decode_grey_png(data: bytes) -> Image.Image | None:
    """Decode a PNG of one channel of 8 bits, as X-rays are published, in 0.85 of Pillow's time.

    The pixels are Pillow's. Returns None for any other file, and for one that is damaged: Pillow gives the reason.
    """
    if len(data) < 29 or not (data.startswith(PNG_START) and data.endswith(PNG_END)):
        return None
    width, height, depth, colour_type = struct.unpack_from(">IIBB", data, len(PNG_START))
    _check_pixels(width, height)
    if (depth, colour_type) != (8, 0):
        return None
    try:
        pixels = png_decode(data)
    except (PngError, ValueError):  # libpng's, and imagecodecs' own of what libpng says
        return None
    return Image.fromarray(pixels) if pixels.ndim == 2 else None  # transparency is a second channel


def decode_with_pillow(data: bytes) -> Image.Image:
    """Decode a PNG or JPEG file as `decode_image` does, by Pillow alone."""
    try:
        _open(data).verify()  # PNG's checksums, which loading skips; verifying ends the image's use
        image = _open(data)
        if image.mode not in EIGHT_BIT_MODES:
            raise BadImageError(f"more than 8 bits a channel (Pillow's mode {image.mode}): convert it to 8 bits")
        image.load()
        return image if image.mode == "L" else image.convert("RGB").convert("L")
    except BadImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise BadImageError("not a PNG or JPEG image") from error
    except Exception as error:  # on damaged data Pillow raises SyntaxError, struct.error, zlib.error and many more
        raise BadImageError(str(error) or type(error).__name__) from error


def _open(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    _check_pixels(image.width, image.height)
    return image


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width} x {height} pixels: more than {MAX_PIXELS:,}")


def fit_image(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size` pixels, bilinear, and cut out the central `size` x `size`.

    Bit for bit `torchvision.transforms.Resize(size)` and `CenterCrop(size)` on a Pillow image, roundings included.

    Raises:
        BadImageError: if the image is so long that its resized form has more than MAX_PIXELS.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    resized_long = int(size * long / short)
    _check_pixels(size, resized_long)
    resized = (size, resized_long) if width <= height else (resized_long, size)
    image = image.resize(resized, Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2.0) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def fit_images(images: Sequence[Image.Image], size: int) -> list[Image.Image]:
    """Fit grey images, each bit for bit as `fit_image` does it alone.

    GROUP images of one size are resized as the channels of one image, in four fifths of their time.

    Raises:
        BadImageError: see `fit_image`.
    """
    width, height = images[0].size
    if [image.size for image in images] == [(width, height)] * GROUP and GROUP * width * height <= MAX_PIXELS:
        return list(fit_image(Image.merge("CMYK", images), size).split())
    return [fit_image(image, size) for image in images]


def encode_image(image: Image.Image, codec: str, quality: int | None) -> bytes:
    """Encode a grey image: raw uint8 pixels row by row, PNG, or baseline JPEG of `quality` 1 to 95.

    Raises:
        BadImageError: if the image is too large for a JPEG, 65,500 pixels a side.
    """
    if codec == "raw":
        return image.tobytes()
    encoded = io.BytesIO()
    if codec == "png":
        image.save(encoded, "PNG", compress_level=PNG_LEVEL)
        return encoded.getvalue()
    try:
        image.save(encoded, "JPEG", quality=quality)
    except OSError as error:
        raise BadImageError(str(error)) from error
    return encoded.getvalue()


def pack_images(images: Sequence[Image.Image], codec: str, size: int | None, quality: int | None) -> list[bytes]:
    """Turn decoded images into samples' bytes: fit them to `size` x `size` unless that is None, and encode them.

    The same image gives the same bytes (as PNG and JPEG: with the same Pillow), whatever images are beside it.

    Raises:
        BadImageError: see `fit_image` and `encode_image`.
    """
    fitted = images if size is None else fit_images(images, size)
    return [encode_image(image, codec, quality) for image in fitted]
