"""Draw one phantom: a schematic chest X-ray with the findings that its label names."""

import dataclasses
from collections.abc import Collection
from statistics import NormalDist

import numpy as np

from shards.datasets.phantom_anatomy import (
    LEFT,
    RIGHT,
    Chest,
    body_layer,
    bone_layer,
    draw_chest,
    mediastinum_layer,
    vessel_layer,
)
from shards.datasets.phantom_canvas import Canvas, ellipse, enlarge
from shards.datasets.phantom_findings import DRAWINGS, RESHAPES, Film
from shards.errors import UserError
from shards.findings import NIH_FINDINGS

Box = tuple[float, float, float, float]
"""x, y, width and height in pixels of a 1024-pixel X-ray, as in NIH's BBox_List_2017.csv."""

DRAWING_SIDES = (256, 512)
"""Shapes are drawn within these sizes and resized: they are soft enough, and only the grain needs every pixel."""

GRAIN = (0.8, 1.9)
"""Range of the film grain's standard deviation in grey levels: with it, 1024-pixel files are as large as NIH's."""

NORMAL_QUANTILES = np.array([NormalDist().inv_cdf((rank + 0.5) / 256) for rank in range(256)], np.float32)
"""A normal deviate for every value of a random byte: enough for grain, and ten times as fast as drawing normals."""


def draw_phantom(
    findings: Collection[str],
    size: int = 1024,
    seed: int = 0,
    patient: int = 1,
    follow_up: int = 0,
    view: str = "PA",
    sex: str = "M",
) -> np.ndarray:
    """Draw a frontal chest X-ray that shows the findings and no others.

    The picture is a function of the arguments. The patient's proportions depend on seed, patient and sex only; the
    position, exposure and the findings' place and strength on follow_up too. At another size the same X-ray is
    drawn, with other grain.

    Args:
        findings: names out of `NIH_FINDINGS`.
        size: side in pixels.
        seed: of the whole data set.
        patient: number of the patient.
        follow_up: number of the patient's image.
        view: PA or AP (a patient in bed: a larger heart, higher clavicles, less depth of breath).
        sex: M or F.

    Returns:
        (size, size) uint8.

    Raises:
        UserError: if a finding is unknown.
    """
    return draw_with_boxes(findings, size, seed, patient, follow_up, view, sex)[0]


def draw_with_boxes(
    findings: Collection[str], size: int, seed: int, patient: int, follow_up: int, view: str, sex: str
) -> tuple[np.ndarray, dict[str, Box]]:
    """Draw as `draw_phantom` does, and give each finding the box that encloses it."""
    unknown = sorted(set(findings) - set(DRAWINGS))
    if unknown:
        raise UserError(f"unknown finding {unknown[0]!r}: use names out of {', '.join(NIH_FINDINGS)}")
    chest = draw_chest(np.random.default_rng([seed, patient]), sex)
    rng, finding_rng, grain_rng = np.random.default_rng([seed, patient, follow_up]).spawn(3)
    canvas = pose(rng, side=int(np.clip(size, *DRAWING_SIDES)))
    if view == "AP":
        chest = lie_down(chest, rng)
    for finding in RESHAPES:
        if finding in findings:
            RESHAPES[finding](chest, finding_rng)

    film = blank_film(canvas, chest, finding_rng)
    coverages = {finding: draw(film) for finding, draw in DRAWINGS.items() if finding in findings}
    absorption = absorb(film, rng, arms_down=view == "AP")
    grey = expose(absorption, rng) * collimate(canvas, rng)
    stamp(grey, view)
    boxes = {finding: enclose(coverage) for finding, coverage in coverages.items()}
    return add_grain(grey, size, grain_rng), boxes


def pose(rng: np.random.Generator, side: int) -> Canvas:
    """Place the patient before the detector, a little off."""
    return Canvas(side, rng.normal(0, 1.5), rng.uniform(0.95, 1.05), (rng.normal(0, 0.012), rng.normal(0, 0.012)))


def lie_down(chest: Chest, rng: np.random.Generator) -> Chest:
    """Change a standing patient's proportions to those of a picture taken in bed, from the front."""
    rise = rng.uniform(0.02, 0.05)
    bases = {side: base - rise for side, base in chest.bases.items()}
    return dataclasses.replace(chest, bases=bases, heart_ratio=chest.heart_ratio * 1.09)


def blank_film(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> Film:
    """Lay out the lungs, and the air in them that heart and great vessels leave."""
    lungs = {side: canvas.areas([chest.lung(side)], soften=0.003) for side in (RIGHT, LEFT)}
    both = lungs[RIGHT] + lungs[LEFT]
    mediastinum = mediastinum_layer(canvas, chest)
    air = both * (1 - 0.9 * canvas.areas([chest.heart()], soften=0.004)) * (1 - 0.85 * np.maximum(mediastinum, 0))
    return Film(canvas, chest, rng, lungs, mediastinum, air, both.copy(), np.zeros_like(air))


def absorb(film: Film, rng: np.random.Generator, arms_down: bool) -> np.ndarray:
    """Sum up what absorbs the rays on their way."""
    canvas, chest = film.canvas, film.chest
    body = body_layer(canvas, chest, arms_down)
    bones = bone_layer(canvas, chest, arms_down)
    stomach = ellipse(0.5 + rng.uniform(0.12, 0.18), chest.bases[LEFT] + rng.uniform(0.06, 0.09), 0.06, 0.028)
    bubble = enlarge(canvas.coarse().areas([stomach], soften=0.008), canvas.side)
    lung_tissue = film.markings * (0.27 * vessel_layer(canvas, chest, rng) + 0.08 * (canvas.noise(rng, 70) - 0.5))
    return (
        body
        + np.minimum(body, 1) * (bones + 0.15 * film.mediastinum - 0.74 * film.air)
        + film.air * lung_tissue
        + film.density
        - rng.uniform(0.1, 0.3) * bubble * (1 - film.air)
    )


def expose(absorption: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn absorption into grey levels, 0 to 255, with varied exposure and contrast."""
    film = 1 - np.exp(-rng.uniform(1.25, 1.7) * np.maximum(absorption, 0))
    return rng.uniform(225, 262) * film ** rng.uniform(0.95, 1.3) + rng.uniform(2, 12)


def collimate(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Let through the rays inside of the collimator's edges, which half of the X-rays show."""
    if rng.random() < 0.5:
        return np.ones((canvas.side, canvas.side), np.float32)
    left, upper, right, lower = rng.uniform(0.0, 0.035, 4) * (1, 1, -1, -1) + (0, 0, 1, 1)
    window = np.array([(left, upper), (right, upper), (right, lower), (left, lower)])
    return Canvas(canvas.side, rng.normal(0, 0.6)).areas([window], soften=0.002)


def stamp(grey: np.ndarray, view: str) -> None:
    """Set the lead marker L beside the patient's left shoulder, in place; AP films carry a dot below it."""
    side = len(grey)
    row, column, unit = round(0.06 * side), round(0.92 * side), max(1, side // 128)
    grey[row : row + 5 * unit, column : column + unit] = 240
    grey[row + 4 * unit : row + 5 * unit, column : column + 3 * unit] = 240
    if view == "AP":
        grey[row + 7 * unit : row + 8 * unit, column : column + unit] = 240


def enclose(coverage: np.ndarray) -> Box:
    """Enclose the part of a layer that is above half of its greatest value."""
    covered = np.abs(coverage) > np.abs(coverage).max() / 2
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    unit = 1024 / len(coverage)
    x, y = float(columns[0] * unit), float(rows[0] * unit)
    return x, y, float((columns[-1] + 1) * unit) - x, float((rows[-1] + 1) * unit) - y


def add_grain(grey: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Bring grey levels to their size and add film grain; return uint8."""
    grain = NORMAL_QUANTILES[np.frombuffer(rng.bytes(size * size), np.uint8)].reshape(size, size)
    grain *= rng.uniform(*GRAIN)
    grain += enlarge(grey, size)
    return np.clip(grain, 0, 255, out=grain).astype(np.uint8)
