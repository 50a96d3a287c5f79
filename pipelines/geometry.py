"""Where an output pixel comes from: projective maps of the unit square, and how DALI is to follow them.

Maps are (B, 3, 3) float64 and take output places to input places, both in the unit square with (0, 0) at the top left,
as homogeneous (x, y, 1). Chained maps `first @ second` cost one interpolation. Places outside the square are black.
"""

import math

import numpy as np

TILES = 8
"""Tiles a side that an image is warped in."""
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)


def crop(left: np.ndarray, top: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Map the whole output to a rectangle of the input; the arguments are (B,) shares of the side."""
    return _affine(width, np.zeros_like(width), left, np.zeros_like(width), height, top)


def rotation(degrees: np.ndarray) -> np.ndarray:
    """Turn the image about its centre, counterclockwise for positive (B,) angles."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return _affine(cosine, -sine, (1 - cosine + sine) / 2, sine, cosine, (1 - cosine - sine) / 2)


def translation(right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Shift the image by (B,) shares of its side."""
    one, zero = np.ones_like(right), np.zeros_like(right)
    return _affine(one, zero, -right, zero, one, -down)


def tilt(corners: np.ndarray) -> np.ndarray:
    """Map a quadrilateral of the output, (B, 4, 2) from the top left clockwise, to the whole input."""
    num_images = len(corners)
    x, y = corners[..., 0], corners[..., 1]
    u, v = np.broadcast_to(CORNERS.T[:, None], (2, num_images, 4))
    one, zero = np.ones_like(x), np.zeros_like(x)
    to_u = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], axis=-1)
    to_v = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], axis=-1)
    equations, values = np.concatenate([to_u, to_v], axis=1), np.concatenate([u, v], axis=1)
    entries = np.linalg.solve(equations, values[..., None])[..., 0]
    return np.concatenate([entries, np.ones((num_images, 1))], axis=1).reshape(-1, 3, 3)


def tile_side(size: int) -> int:
    """Return the side of a tile in pixels; the last tiles may reach beyond the image."""
    return -(-size // TILES)


def tile_matrices(maps: np.ndarray, size: int) -> np.ndarray:
    """Turn maps into affine ones, tile by tile, for DALI warps affinely only (its CPU has no perspective).

    In a tile the map is replaced by the affine one that is closest to it at the tile's corners. An affine map stays
    what it is; CheXphoto's tilt is off by 0.03 pixels of 224 on average and 0.1 at most at level 1, by 0.2 and 1.4 at
    level 4.

    Returns:
        (B, TILES * TILES, 2, 3) float32, tiles row by row: from a tile's pixels to the input's.
    """
    side = tile_side(size)
    edges = np.arange(TILES + 1) * side / size
    x, y = np.meshgrid(edges, edges)
    mapped = np.einsum("bij,yxj->byxi", maps, np.stack([x, y, np.ones_like(x)], axis=-1))
    places = mapped[..., :2] / mapped[..., 2:] * size
    top_left, top_right = places[:, :-1, :-1], places[:, :-1, 1:]
    bottom_left, bottom_right = places[:, 1:, :-1], places[:, 1:, 1:]
    along_x = (top_right - top_left + bottom_right - bottom_left) / (2 * side)
    along_y = (bottom_left - top_left + bottom_right - top_right) / (2 * side)
    centre = (top_left + top_right + bottom_left + bottom_right) / 4
    origin = centre - (along_x + along_y) * side / 2
    matrices = np.stack([along_x, along_y, origin], axis=-1)
    return matrices.reshape(len(maps), TILES * TILES, 2, 3).astype(np.float32)


def _affine(
    xx: np.ndarray, xy: np.ndarray, x0: np.ndarray, yx: np.ndarray, yy: np.ndarray, y0: np.ndarray
) -> np.ndarray:
    one, zero = np.ones_like(xx), np.zeros_like(xx)
    return np.stack([xx, xy, x0, yx, yy, y0, zero, zero, one], axis=-1).reshape(-1, 3, 3)


def border_error(side: int, size: int) -> float:
    """Return how far DALI's antialiased resizing can be from Pillow's, along one side, for the worst image.

    Both weigh the pixels about an output pixel's centre with a triangle. Beyond the border Pillow leaves the triangle
    out, and DALI repeats the outermost pixel.

    Args:
        side: of the input, in pixels.
        size: of the output, in pixels.

    Returns:
        The largest difference of an output pixel, in grey levels of 255.
    """
    scale = side / size
    reach = max(scale, 1.0)
    largest = 0.0
    for centre in scale * (np.arange(math.ceil(reach / scale)) + 0.5):
        pixels = np.arange(math.floor(centre - reach), math.ceil(centre + reach))
        weights = np.maximum(0, 1 - np.abs(pixels + 0.5 - centre) / reach)
        pillow = np.where(pixels < 0, 0, weights) / weights[pixels >= 0].sum()
        dali = np.where(pixels < 0, 0, weights) / weights.sum()
        dali[pixels == 0] += weights[pixels < 0].sum() / weights.sum()
        largest = max(largest, 255 * float(np.abs(pillow - dali).sum()) / 2)
    return largest
