"""What DALI does to images between decoding and normalising: resizing as Pillow does it, and augmentation.

Images are (H, W, 1) uint8 before and after. All of it runs on the device that holds them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from nvidia.dali import fn, math, types

from pipelines.augment import Step
from pipelines.geometry import TILES, border_error, tile_side

Span = tuple[Any, Any, Any]
"""One side of each image: its length, and where on it the output begins and ends, in pixels."""
ONE_PIXEL: Span = (1, 0.0, 1.0)
MAX_BORDER_ERROR = 2.5
"""In grey levels of 255, where a black pixel touches a white one at the border; 256 to 224 pixels gives 2.2."""


def resize_packed(images: Any, shape: Any, packed_size: int | None, size: int) -> Any:
    """Bring packed images to `size` x `size` as torchvision does on Pillow; see `resize_and_crop`.

    Square images that are not much larger than their output are resized by DALI alone, which is three times as fast: it
    is then at most MAX_BORDER_ERROR off in the outermost pixels, and 1 elsewhere.

    Args:
        images: (H, W, 1) uint8 each.
        shape: (H, W, ...) int each, on the CPU.
        packed_size: the side of all images in pixels; None if each has its own shape.
        size: the output's side in pixels.
    """
    if packed_size is not None and border_error(packed_size, size) <= MAX_BORDER_ERROR:
        return fn.resize(images, size=(size, size), antialias=True)
    return resize_and_crop(images, shape, size)


def resize_and_crop(images: Any, shape: Any, size: int) -> Any:
    """Resize the shorter side to `size` pixels and cut out the central `size` x `size`, as torchvision does on Pillow.

    At the border Pillow's filter leaves out what lies beyond the image, where DALI's repeats the outermost pixels, up
    to 31 grey levels off. So the image is padded with black, which adds nothing, and the outcome is divided by the
    filter's share within the image, found by resizing ones. No pixel is more than 1 grey level from Pillow's, which
    rounds between its horizontal and its vertical pass.

    Args:
        images: (H, W, 1) uint8 each.
        shape: (H, W, ...) int each, on the CPU.
        size: the output's side in pixels.
    """
    height, width = (fn.cast(shape[axis], dtype=types.INT32) for axis in (0, 1))
    shorter = math.min(height, width)
    margin = shorter // size + 2  # the filter reaches one output pixel, or one input pixel where it enlarges
    rows, columns = _central_span(height, shorter, size), _central_span(width, shorter, size)
    pixels = _resize(images, rows, columns, margin, (size, size))
    row_share = _resize(_ones(images[:, :1]), rows, ONE_PIXEL, margin, (size, 1))
    column_share = _resize(_ones(images[:1]), ONE_PIXEL, columns, margin, (1, size))
    return _bytes(pixels / (row_share * column_share))


def _central_span(side: Any, shorter: Any, size: int) -> Span:
    """Find the part of a side that becomes the output, with torchvision's roundings."""
    resized = size * side // shorter
    surplus = resized - size
    begin = surplus // 2 + (surplus & 1) * (surplus // 2 & 1)  # the half of it, rounded to even
    return side, *(fn.cast(place * side, dtype=types.FLOAT) / resized for place in (begin, begin + size))


def _resize(images: Any, rows: Span, columns: Span, margin: Any, size: tuple[int, int]) -> Any:
    """Resize a part of images that are padded with `margin` black pixels on every side; (*size, 1) float."""
    sides, begins, ends = zip(rows, columns, strict=True)
    padded = fn.slice(
        images,
        start=fn.stack(-margin, -margin),
        shape=fn.stack(*(side + 2 * margin for side in sides)),
        axis_names="HW",
        out_of_bounds_policy="pad",
    )
    return fn.resize(
        padded,
        size=size,
        roi_start=fn.stack(*(begin + margin for begin in begins)),
        roi_end=fn.stack(*(end + margin for end in ends)),
        antialias=True,
        dtype=types.FLOAT,
    )


def _ones(images: Any) -> Any:
    return fn.cast(images >= 0, dtype=types.FLOAT)


def augment(images: Any, steps: Sequence[Step], inputs: Sequence[Any], size: int) -> Any:
    """Apply the steps of an augmentation.

    Args:
        images: (size, size, 1) uint8 each.
        steps: what is done, in order.
        inputs: the steps' inputs as `pipelines.augment.step_inputs` lists them, on the images' device.
        size: the images' side in pixels.
    """
    operations: dict[str, Callable[..., Any]] = {
        "warp": partial(_warp, size=size),
        "filter": _filter,
        "brighten": _brighten,
        "contrast": _contrast,
        "expose": _expose,
        "whiten": _whiten,
        "darken": _darken,
    }
    remaining = iter(inputs)
    for step in steps:
        images = operations[step.operation](images, *islice(remaining, step.num_inputs))
    return images


def _warp(images: Any, matrices: Any, size: int) -> Any:
    """Warp affinely, tile by tile, as `pipelines.geometry.tile_matrices` gives them."""
    side = tile_side(size)
    tiles = fn.warp_affine(images, fn.per_frame(matrices), size=(side, side), fill_value=0)
    rows_of_tiles = fn.reshape(tiles, shape=[TILES, TILES, side, side])
    joined = fn.transpose(rows_of_tiles, perm=[0, 2, 1, 3])
    warped = fn.reshape(joined, shape=[TILES * side, TILES * side, 1], layout="HWC")
    return warped[:size, :size]


def _filter(images: Any, kernels: Any) -> Any:
    """Correlate with (height, width) kernels; the border pixels are repeated."""
    correlate = fn.filter if hasattr(fn, "filter") else fn.experimental.filter  # where DALI 1 has it
    return correlate(images, kernels, border="clamp")


def _brighten(images: Any, factors: Any) -> Any:
    """Multiply with () factors."""
    return _bytes(images * factors)


def _contrast(images: Any, factors: Any) -> Any:
    """Multiply the distance from each image's mean with () factors."""
    mean = fn.reductions.mean(images, axes=(0, 1, 2), keep_dims=True)
    return _bytes(mean + (images - mean) * factors)


def _expose(images: Any) -> Any:
    """Look each grey level up in the sigmoid of gain 5 about the middle."""
    levels = np.arange(256)
    curve = 255 / (1 + np.exp(5 * (0.5 - levels / 255)))
    return fn.lookup_table(images, keys=levels.tolist(), values=curve.round().tolist(), dtype=types.UINT8)


def _whiten(images: Any, rows: Any, columns: Any, ceilings: Any) -> Any:
    """Blend with white, with opacity min(row * column, ceiling); shapes (size, 1, 1), (1, size, 1) and ()."""
    return _bytes(images + (255.0 - images) * math.min(rows * columns, ceilings))


def _darken(images: Any, light: Any) -> Any:
    """Let through a share of each pixel's light, (size, size, 1) uint8 of 255."""
    return _bytes(images * (light / 255.0))


def _bytes(images: Any) -> Any:
    """Round to 8 bits; what is darker than black or brighter than white is black or white."""
    return fn.cast(images, dtype=types.UINT8)
