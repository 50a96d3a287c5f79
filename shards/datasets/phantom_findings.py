"""How each of the 14 findings looks on a phantom."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shards.datasets.phantom_anatomy import LEFT, RIGHT, Chest
from shards.datasets.phantom_canvas import Canvas, Outline, ellipse


@dataclass
class Film:
    """The layers of one X-ray in the making; the findings change them in place.

    Attributes:
        canvas: what the layers are drawn on.
        chest: the proportions.
        rng: the source of the findings' variation.
        lungs: coverage of each lung, the part hidden by the heart included.
        mediastinum: coverage of the great vessels.
        air: where the rays pass through air, 0 to 1.
        markings: how much of the vessels shows, 0 to 1.
        density: what the findings add to the absorption (about 1 in the trunk).
    """

    canvas: Canvas
    chest: Chest
    rng: np.random.Generator
    lungs: dict[int, np.ndarray]
    mediastinum: np.ndarray
    air: np.ndarray
    markings: np.ndarray
    density: np.ndarray

    def side(self) -> int:
        """Draw a side of the patient."""
        return RIGHT if self.rng.random() < 0.5 else LEFT

    def add(self, coverage: np.ndarray, low: float, high: float) -> np.ndarray:
        """Let a coverage absorb by a strength drawn between low and high; return the coverage."""
        self.density += self.rng.uniform(low, high) * coverage
        return coverage


def lower_diaphragms(chest: Chest, rng: np.random.Generator) -> None:
    """Emphysema: hyperinflated lungs over flat diaphragms, a narrow heart."""
    for side in (RIGHT, LEFT):
        chest.bases[side] += rng.uniform(0.07, 0.09)
    chest.dome *= rng.uniform(0.2, 0.35)
    chest.half_width *= 1.06
    chest.heart_ratio *= 0.85


def widen_heart(chest: Chest, rng: np.random.Generator) -> None:
    """Cardiomegaly: a cardiothoracic ratio well above 0.5."""
    chest.heart_ratio = rng.uniform(0.60, 0.72)


RESHAPES: dict[str, Callable[[Chest, np.random.Generator], None]] = {
    "Emphysema": lower_diaphragms,
    "Cardiomegaly": widen_heart,
}
"""Findings that change the chest's proportions; they come before anything is drawn, in this order."""


def draw_cardiomegaly(film: Film) -> np.ndarray:
    """Return the heart, which was widened before the film was drawn."""
    return film.canvas.areas([film.chest.heart()], soften=0.004)


def draw_emphysema(film: Film) -> np.ndarray:
    """Darken both lungs and thin their vessels."""
    both = film.lungs[RIGHT] + film.lungs[LEFT]
    film.markings *= 1 - 0.65 * both
    return film.add(both * film.air, -0.13, -0.09)


def draw_atelectasis(film: Film) -> np.ndarray:
    """Draw one to three thick plates across the middle or lower zone of a lung."""
    side, rng = film.side(), film.rng
    x, y = film.chest.place(side, rng.uniform(0.5, 0.72), 0.55)
    tilt = rng.uniform(-0.06, 0.06)
    plates = []
    for number in range(rng.integers(1, 4)):
        half, bend, height = rng.uniform(0.075, 0.11), rng.uniform(-0.012, 0.012), y + number * 0.045
        plates.append(np.array([(x - half, height - tilt), (x, height + bend), (x + half, height + tilt)]))
    coverage = film.canvas.lines(plates, rng.uniform(0.014, 0.022, len(plates)).tolist(), soften=0.003)
    return film.add(coverage * film.lungs[side], 0.4, 0.6)


def draw_effusion(film: Film) -> np.ndarray:
    """Fill a costophrenic angle up to a meniscus that rises along the chest wall."""
    side, rng, chest = film.side(), film.rng, film.chest
    angle = chest.angle_height(side)
    level = min(angle - 0.08, chest.bases[side] + 0.03) - rng.uniform(0.0, 0.16)
    across = np.linspace(0, 1, 16)
    surface = np.stack(
        [0.5 + side * (0.02 + across * (chest.half_width + 0.01)), level - rng.uniform(0.08, 0.13) * across**4], axis=1
    )
    floor = np.array([(0.5 + side * (chest.half_width + 0.03), angle + 0.1), (0.5 + side * 0.02, angle + 0.1)])
    fluid = film.canvas.areas([np.concatenate([surface, floor])], soften=0.006) * film.lungs[side]
    film.air *= 1 - fluid
    film.markings *= 1 - fluid
    return film.add(fluid, 0.2, 0.3)


def draw_infiltration(film: Film) -> np.ndarray:
    """Spread hazy, ill-defined mottling over part of a lung."""
    side, rng = film.side(), film.rng
    patches = []
    depth = rng.uniform(0.25, 0.6)
    for _ in range(5):
        x, y = film.chest.place(side, depth + rng.uniform(-0.14, 0.14), rng.uniform(0.2, 0.8))
        patches.append(ellipse(x, y, rng.uniform(0.04, 0.065), rng.uniform(0.04, 0.07), rng.uniform(0, 90)))
    haze = film.canvas.areas(patches, soften=0.025) * film.lungs[side]
    return film.add(haze * (0.5 + 0.8 * film.canvas.noise(rng, 48)), 0.28, 0.42)


def blob(film: Film, radius: float, margin: float, waves: float) -> np.ndarray:
    """Cover a round spot somewhere in a lung, at `margin` or more from its borders (share of the lung's width)."""
    rng = film.rng
    x, y = film.chest.place(film.side(), rng.uniform(0.16, 0.62), rng.uniform(margin, 1 - margin))
    lobes = rng.uniform(-waves, waves, 3).tolist()
    outline = ellipse(x, y, radius, radius * rng.uniform(0.85, 1.15), rng.uniform(0, 90), lobes)
    return film.canvas.areas([outline], soften=0.004)


def draw_mass(film: Film) -> np.ndarray:
    """Draw a large lobulated opacity, more than 3 cm across (X-rays are about 40 cm wide)."""
    return film.add(blob(film, film.rng.uniform(0.065, 0.10), 0.33, 0.09), 0.42, 0.6)


def draw_nodule(film: Film) -> np.ndarray:
    """Draw a small round opacity, at most 3 cm across."""
    return film.add(blob(film, film.rng.uniform(0.026, 0.037), 0.25, 0.03), 0.5, 0.7)


def draw_pneumonia(film: Film) -> np.ndarray:
    """Draw a focus of confluent blotches, crossed by dark air-filled bronchi."""
    side, rng, canvas = film.side(), film.rng, film.canvas
    x, y = film.chest.place(side, rng.uniform(0.3, 0.68), rng.uniform(0.35, 0.65))
    offsets = rng.normal(0, 0.042, (22, 2))
    blotches = [ellipse(x + dx, y + dy, *rng.uniform(0.010, 0.024, 2).tolist()) for dx, dy in offsets]
    focus = canvas.areas([ellipse(x, y, 0.075, 0.075)], soften=0.03)
    hilum = np.array(film.chest.hilum(side))
    ends = np.array([x, y]) + rng.normal(0, 0.05, (5, 2))
    bronchi = canvas.lines([np.stack([hilum * 0.4 + end * 0.6, end]) for end in ends], [0.008] * 5, soften=0.002)
    patch = (0.35 * focus + 0.65 * canvas.areas(blotches, soften=0.005)) * film.lungs[side]
    film.density -= 0.22 * bronchi * focus * film.lungs[side]
    return film.add(patch, 0.5, 0.68)


def draw_pneumothorax(film: Film) -> np.ndarray:
    """Detach a lung from the chest wall: a dark rim without markings outside a thin bright pleural line."""
    side, rng, chest = film.side(), film.rng, film.chest
    depth = np.linspace(0, 1, 24)
    gap = rng.uniform(0.07, 0.13) * (1 - 0.75 * depth**1.5)
    edge = chest.wall(side, depth) - np.stack([side * gap, np.zeros(24)], axis=1)
    edge[:, 1] += 0.8 * gap[0] * (1 - depth) ** 3
    edge[:, 0] = np.where(side * (edge[:, 0] - 0.5) < 0.05, 0.5 + side * 0.05, edge[:, 0])
    bottom = np.array([(0.5, chest.angle_height(side) + 0.2), (0.5, edge[0, 1])])
    retracted = film.canvas.areas([np.concatenate([edge, bottom])], soften=0.002)
    rim = film.lungs[side] * (1 - retracted)
    film.markings *= 1 - rim
    film.density += 0.08 * retracted * film.lungs[side]
    film.density += 0.3 * film.canvas.lines([edge], [0.005], soften=0.001) * film.lungs[side]
    return film.add(rim * film.air, -0.2, -0.16)


def draw_consolidation(film: Film) -> np.ndarray:
    """Fill a lobe: dense, ended by a sharp fissure on one side and fading on the other."""
    side, rng, chest = film.side(), film.rng, film.chest
    fissure = chest.place(side, rng.uniform(0.42, 0.5), 0.5)[1]
    slope = side * rng.uniform(-0.25, 0.25)
    reach = rng.uniform(0.17, 0.24) * (1 if rng.random() < 0.5 else -1)
    sharp = np.array([(0.0, fissure - 0.5 * slope), (1.0, fissure + 0.5 * slope)])
    level = np.array([(1.0, fissure + reach), (0.0, fissure + reach)])
    beyond_fissure = film.canvas.areas([np.concatenate([sharp, level + (0, reach)])], soften=0.004)
    short_of_end = film.canvas.areas([np.concatenate([sharp - (0, reach), level])], soften=0.025)
    coverage = beyond_fissure * short_of_end * film.lungs[side] * film.air
    film.markings *= 1 - 0.8 * coverage
    return film.add(coverage * (0.85 + 0.3 * film.canvas.noise(rng, 24)), 0.42, 0.56)


def draw_edema(film: Film) -> np.ndarray:
    """Cloud both lungs around the hila like a bat's wings, with short septal lines at the bases."""
    rng, chest = film.rng, film.chest
    wings, lines = [], []
    for side in (RIGHT, LEFT):
        x, y = chest.hilum(side)
        wings.append(ellipse(x + side * 0.075, y + 0.02, rng.uniform(0.075, 0.095), rng.uniform(0.13, 0.16), side * 12))
        for depth in rng.uniform(0.7, 0.9, 8):
            end = chest.wall(side, depth)[0]
            lines.append(np.array([end, end - (side * 0.035, 0.004)]))
    both = film.lungs[RIGHT] + film.lungs[LEFT]
    cloud = film.canvas.areas(wings, soften=0.035) * both
    film.density += 0.2 * film.canvas.lines(lines, [0.003] * len(lines), soften=0.001) * both
    return film.add(cloud * (0.8 + 0.4 * film.canvas.noise(rng, 40)), 0.4, 0.55)


def draw_fibrosis(film: Film) -> np.ndarray:
    """Weave a net of fine lines over both lung bases."""
    rng, canvas = film.rng, film.canvas
    lines: list[Outline] = []
    nets = []
    for side in (RIGHT, LEFT):
        x, y = film.chest.place(side, 0.78, 0.62)
        nets.append(ellipse(x, y, 0.115, 0.12))
        spots = np.array([x, y]) + rng.uniform(-0.13, 0.13, (150, 2))
        strokes = rng.normal(0, 0.011, (150, 2, 2))
        lines += [
            spot + np.concatenate([stroke[:1], [[0, 0]], stroke[1:]])
            for spot, stroke in zip(spots, strokes, strict=True)
        ]
    area = canvas.areas(nets, soften=0.025) * (film.lungs[RIGHT] + film.lungs[LEFT])
    net = canvas.lines(lines, [0.004] * len(lines), soften=0.0012)
    return film.add(area * (0.25 + net), 0.36, 0.5)


def draw_pleural_thickening(film: Film) -> np.ndarray:
    """Line the chest wall of a lung, apex included, with an uneven bright rim."""
    side, rng = film.side(), film.rng
    depth = np.linspace(0.0, rng.uniform(0.7, 0.95), 24)
    wall = film.chest.wall(side, depth)
    bumps = np.convolve(rng.uniform(0.6, 1.4, 26), [0.25, 0.5, 0.25], "valid")
    thickness = rng.uniform(0.028, 0.042) * bumps
    inner = wall - np.stack([side * thickness, -0.9 * thickness * (1 - depth) ** 4], axis=1)
    beyond = np.concatenate([[(0.5 + side * 0.05, film.chest.top - 0.02)], wall + (side * 0.02, 0)])
    rim = film.canvas.areas([np.concatenate([beyond, inner[::-1]])], soften=0.003) * film.lungs[side]
    film.markings *= 1 - rim
    return film.add(rim, 0.45, 0.6)


def draw_hernia(film: Film) -> np.ndarray:
    """Put a round air-filled stomach behind the heart: a bright wall around air over a fluid level."""
    rng, canvas = film.rng, film.canvas
    radius = rng.uniform(0.065, 0.085)
    x, y = 0.5 + rng.uniform(-0.01, 0.05), film.chest.bases[LEFT] - rng.uniform(0.03, 0.06)
    pouch = ellipse(x, y, radius, radius * 0.92)
    upper = pouch.copy()
    upper[:, 1] = np.minimum(upper[:, 1], y + 0.2 * radius)
    film.density -= rng.uniform(0.45, 0.6) * canvas.areas([upper], soften=0.003)
    ring = canvas.lines([np.concatenate([pouch, pouch[:1]])], [0.012], soften=0.002)
    film.add(ring, 0.35, 0.5)
    return canvas.areas([pouch], soften=0.003)


DRAWINGS: dict[str, Callable[[Film], np.ndarray]] = {
    "Cardiomegaly": draw_cardiomegaly,
    "Emphysema": draw_emphysema,
    "Fibrosis": draw_fibrosis,
    "Infiltration": draw_infiltration,
    "Edema": draw_edema,
    "Consolidation": draw_consolidation,
    "Pneumonia": draw_pneumonia,
    "Atelectasis": draw_atelectasis,
    "Mass": draw_mass,
    "Nodule": draw_nodule,
    "Pleural_Thickening": draw_pleural_thickening,
    "Effusion": draw_effusion,
    "Pneumothorax": draw_pneumothorax,
    "Hernia": draw_hernia,
}
"""Each finding's drawing, in the order they are laid over each other; it returns the coverage that a box encloses."""
