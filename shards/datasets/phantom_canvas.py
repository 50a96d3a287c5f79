"""Soft-edged shapes on a small canvas, in coordinates that run from 0 to 1 across the X-ray."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Path = np.ndarray
"""(N, 2) points x, y; x grows to the image's right (the patient's left), y downwards."""


@dataclass(frozen=True)
class Canvas:
    """A square of `side` pixels that sees the patient rotated (degrees), scaled and shifted.

    Every method returns a (side, side) float32 layer between 0 and 1.
    """

    side: int
    rotation: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def pixels(self, path: Path) -> list[tuple[float, float]]:
        """Carry points of the patient to pixels of the canvas."""
        angle = math.radians(self.rotation)
        turn = self.scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        placed = ((np.asarray(path) - 0.5) @ turn + 0.5 + self.shift) * self.side
        return list(map(tuple, placed.tolist()))

    def areas(self, outlines: Iterable[Path], soften: float) -> np.ndarray:
        """Fill outlines (their union), with edges softened over `soften`."""
        image = Image.new("L", (self.side, self.side))
        draw = ImageDraw.Draw(image)
        for outline in outlines:
            draw.polygon(self.pixels(outline), fill=255)
        return self._soften(image, soften)

    def strokes(self, paths: Sequence[Path], widths: Sequence[float], soften: float) -> np.ndarray:
        """Draw lines of the given widths; a line thinner than a pixel is a faint line of one pixel."""
        image = Image.new("L", (self.side, self.side))
        draw = ImageDraw.Draw(image)
        for path, width in zip(paths, widths, strict=True):
            thickness = width * self.scale * self.side
            draw.line(self.pixels(path), fill=round(255 * min(1.0, thickness)), width=max(1, round(thickness)))
        return self._soften(image, soften)

    def noise(self, rng: np.random.Generator, num_cells: int) -> np.ndarray:
        """Draw smooth noise, uniform between 0 and 1 at the corners of a grid of `num_cells` squared."""
        cells = Image.fromarray(rng.random((num_cells, num_cells), dtype=np.float32))
        return np.asarray(cells.resize((self.side, self.side), Image.Resampling.BILINEAR))

    def _soften(self, image: Image.Image, soften: float) -> np.ndarray:
        blurred = image.filter(ImageFilter.GaussianBlur(max(0.5, soften * self.side)))
        return np.asarray(blurred, np.float32) / np.float32(255)


def ellipse(x: float, y: float, a: float, b: float, tilt: float = 0.0, waves: Sequence[float] = ()) -> Path:
    """Outline an ellipse of half axes a, b, turned by `tilt` degrees; `waves` make its edge lobulated."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = 1 + sum(wave * np.sin((order + 2) * angles + 7 * order) for order, wave in enumerate(waves))
    u, v = a * radius * np.cos(angles), b * radius * np.sin(angles)
    turn = math.radians(tilt)
    return np.stack([x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)], axis=1)
