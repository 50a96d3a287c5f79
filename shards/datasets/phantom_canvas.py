"""Soft-edged shapes in coordinates that run from 0 to 1 across the X-ray."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Outline = np.ndarray
"""(N, 2) points x, y; x grows to the image's right (the patient's left), y downwards."""


@dataclass(frozen=True)
class Canvas:
    """A square of `side` pixels that sees the patient turned (in degrees), scaled and shifted."""

    side: int
    turn: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def coarse(self) -> "Canvas":
        """The same view with a quarter of the pixels a side, for what has no sharp edges."""
        return replace(self, side=self.side // 4)

    def pixels(self, outlines: Sequence[Outline]) -> list[list[float]]:
        """Carry outlines from the patient to pixels of the canvas: x, y, x, y ..."""
        angle = math.radians(self.turn)
        rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        placed = (np.concatenate(outlines) - 0.5) @ (self.scale * rotation) + 0.5 + self.shift
        flat = (placed * self.side).ravel().tolist()
        ends = list(accumulate(2 * len(outline) for outline in outlines))
        return [flat[start:end] for start, end in pairwise([0, *ends])]

    def areas(self, outlines: Sequence[Outline], soften: float) -> np.ndarray:
        """Fill outlines; see `Layer`."""
        return Layer(self).add_areas(outlines).soften(soften)

    def lines(self, paths: Sequence[Outline], widths: Sequence[float], soften: float) -> np.ndarray:
        """Draw lines; see `Layer`."""
        return Layer(self).add_lines(paths, widths).soften(soften)

    def noise(self, rng: np.random.Generator, num_cells: int) -> np.ndarray:
        """Draw smooth noise, uniform between 0 and 1 at the corners of a grid of `num_cells` squared."""
        return enlarge(rng.random((num_cells, num_cells), dtype=np.float32), self.side)


class Layer:
    """Shapes of different weight that absorb one after the other, so that their weights add up to at most 1."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._image = self._blank()

    def add_areas(self, outlines: Sequence[Outline], weight: float = 1.0) -> "Layer":
        """Fill outlines; where these overlap each other they count once."""
        shapes = self._blank()
        draw = ImageDraw.Draw(shapes)
        for points in self._canvas.pixels(outlines):
            draw.polygon(points, fill=round(255 * weight))
        self._image = ImageChops.add(self._image, shapes)
        return self

    def add_lines(self, paths: Sequence[Outline], widths: Sequence[float], weight: float = 1.0) -> "Layer":
        """Draw lines of these widths; a line thinner than a pixel is a fainter line of one pixel."""
        shapes = self._blank()
        draw = ImageDraw.Draw(shapes)
        for points, width in zip(self._canvas.pixels(paths), widths, strict=True):
            thickness = width * self._canvas.scale * self._canvas.side
            draw.line(points, fill=round(255 * weight * min(1.0, thickness)), width=max(1, round(thickness)))
        self._image = ImageChops.add(self._image, shapes)
        return self

    def soften(self, width: float) -> np.ndarray:
        """Blur all edges over `width`, a pixel at least; return (side, side) float32 between 0 and 1."""
        radius = max(0.5, width * self._canvas.side)
        # An edge of a few pixels needs no Gaussian, whose three passes would take most of the drawing time.
        blur = ImageFilter.BoxBlur(radius) if radius < 2.5 else ImageFilter.GaussianBlur(radius)
        return np.asarray(self._image.filter(blur), np.float32) / np.float32(255)

    def _blank(self) -> Image.Image:
        return Image.new("L", (self._canvas.side, self._canvas.side))


def enlarge(layer: np.ndarray, side: int) -> np.ndarray:
    """Resize a square float32 layer to `side` pixels, bilinearly."""
    return np.asarray(Image.fromarray(layer).resize((side, side), Image.Resampling.BILINEAR))


def ellipse(x: float, y: float, a: float, b: float, tilt: float = 0.0, lobes: Sequence[float] = ()) -> Outline:
    """Outline an ellipse of half axes a and b, turned by `tilt` degrees, with waves of these heights (`lobes`)."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 1 + sum(height * np.sin(number * angles + 7 * number) for number, height in enumerate(lobes, start=2))
    u, v = a * radius * np.cos(angles), b * radius * np.sin(angles)
    turn = math.radians(tilt)
    return np.stack([x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)], axis=1)


def rounded(corners: np.ndarray) -> Outline:
    """Round a closed outline by cutting its corners three times (Chaikin)."""
    for _ in range(3):
        following = np.roll(corners, -1, axis=0)
        corners = np.stack([0.75 * corners + 0.25 * following, 0.25 * corners + 0.75 * following], axis=1).reshape(
            -1, 2
        )
    return corners


def mirrored(half: np.ndarray) -> Outline:
    """Close an outline that is given as (distance from the midline, y) of the patient's left half."""
    return np.concatenate([half, half[::-1] * (-1, 1)]) + (0.5, 0.0)
