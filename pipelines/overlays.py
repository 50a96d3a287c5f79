"""What lies over a photographed X-ray: reflections of light, and the screen's lines. NumPy and Pillow alone."""

from functools import cache

import numpy as np
from PIL import Image

from pipelines.geometry import rotation, tilt

NUM_MOIRES = 8
MOIRE_SEED = 0
MOIRE_LINES = {1: (20, 0.05), 2: (4.5, 0.15), 3: (2.5, 0.35), 4: (1, 0.5)}
"""CheXphoto's gap between lines of 1 pixel, in pixels of the doubled original, and the lines' opacity, per level."""


def bell(centres: np.ndarray, sigma: float, size: int) -> np.ndarray:
    """Return (B, size) float32: at each pixel a Gaussian of height 1 about (B,) `centres`; all in pixels."""
    distances = np.arange(size) + 0.5 - centres[:, None]
    return np.exp(-0.5 * (distances / sigma) ** 2).astype(np.float32)


def bar(starts: np.ndarray, ends: np.ndarray, size: int) -> np.ndarray:
    """Return (B, size) float32: the share of each pixel that lies between (B,) `starts` and `ends`, in pixels."""
    pixels = np.arange(size)
    covered = np.minimum(ends[:, None], pixels + 1) - np.maximum(starts[:, None], pixels)
    return np.clip(covered, 0, 1).astype(np.float32)


@cache
def moire_overlays(level: int, size: int, original_size: int) -> np.ndarray:
    """Draw what CheXphoto's moire leaves of the light: NUM_MOIRES patterns, always the same ones.

    As there, two fans of dark lines are laid over the original at twice its size; they are then shrunk to `size`. That
    takes too long to be done for every image anew.

    Returns:
        (NUM_MOIRES, size, size, 1) uint8; 255 lets all light through.
    """
    generator = np.random.default_rng((MOIRE_SEED, level))
    gap, opacity = MOIRE_LINES[level]
    side = 2 * original_size
    light = np.where(np.arange(2 * side) % (1 + gap) < 1, 255 * (1 - opacity), 255).astype(np.float32)
    overlays = []
    for _ in range(NUM_MOIRES):
        angles = (90.0, 90 + generator.normal())
        fans = [light[_fan_rows(side, degrees, generator.uniform(0, 100, 2))] for degrees in angles]
        shrunk = Image.fromarray(fans[0] * fans[1] / 255).resize((size, size), Image.Resampling.BILINEAR)
        overlays.append(np.asarray(shrunk).round().astype(np.uint8)[..., None])
    return np.stack(overlays)


def _fan_rows(side: int, degrees: float, offset: np.ndarray) -> np.ndarray:
    """Return (side, side) int32: which row of a canvas lies at each pixel, once the canvas is spread and turned.

    The canvas has twice the side. It is spread to twice its height at its left, turned about its centre, and its
    middle is cut out, shifted by `offset` pixels.
    """
    canvas = 2 * side
    spread = tilt(np.array([[[0, -0.5], [1, 0], [1, 1], [0, 1.5]]]))[0]
    matrix = spread @ rotation(np.array([degrees]))[0] @ np.diag([1 / canvas, 1 / canvas, 1])
    x, y = np.arange(side) + side / 2 + offset[:, None]
    row, scale = ((a * x + c).astype(np.float32) + (b * y).astype(np.float32)[:, None] for a, b, c in matrix[1:])
    return np.clip(canvas * row / scale, 0, canvas - 1).astype(np.int32)
