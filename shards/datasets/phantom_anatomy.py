"""The phantom's normal anatomy: a patient's proportions, the chest's outlines, and what absorbs the rays."""

from dataclasses import dataclass

import numpy as np

from shards.datasets.phantom_canvas import Canvas, Layer, Outline, ellipse, enlarge, mirrored, rounded

RIGHT, LEFT = -1, 1
"""The patient's sides: the right lung is on the image's left."""

HEART = np.array(
    [
        (-0.15, -1.0),
        (-0.25, -0.72),
        (-0.36, -0.45),
        (-0.37, -0.10),
        (-0.20, 0.16),
        (0.20, 0.20),
        (0.60, 0.24),
        (0.73, 0.02),
        (0.67, -0.28),
        (0.45, -0.62),
        (0.25, -1.0),
    ]
)
"""Corners of the heart: in its widths from the midline, in its heights from the diaphragm."""

VERTEBRA = np.array([(0.448, -0.022), (0.552, -0.022), (0.530, 0.0), (0.552, 0.022), (0.448, 0.022), (0.470, 0.0)])
"""Corners of a vertebral body around height 0."""


@dataclass
class Chest:
    """The proportions of one chest, in widths of the X-ray; findings may change them before it is drawn.

    Attributes:
        half_width: of the thorax at its base.
        top: height of the lung apices.
        bases: height of the right and left diaphragm dome.
        dome: how far the costophrenic angle lies below the dome.
        heart_ratio: cardiothoracic ratio: heart width by thorax width; above 0.5 is enlarged.
        fat: soft tissue beside the ribs.
        rib_pitch: distance between ribs.
        knob: radius of the aortic knob.
        clavicle: how far the clavicles rise towards the shoulders.
        breast: radius of the breast shadows, 0 for none.
    """

    half_width: float
    top: float
    bases: dict[int, float]
    dome: float
    heart_ratio: float
    fat: float
    rib_pitch: float
    knob: float
    clavicle: float
    breast: float

    def angle_height(self, side: int) -> float:
        """Height of the costophrenic angle."""
        return self.bases[side] + self.dome

    def wall(self, side: int, depth: np.ndarray | float) -> Outline:
        """Points of the inner chest wall; depth runs from 0 at the apex to 1 at the costophrenic angle."""
        depth = np.atleast_1d(depth)
        lateral = 0.10 + (self.half_width - 0.10) * (1 - (1 - depth) ** 2.6) ** 0.53
        height = self.top + depth * (self.angle_height(side) - self.top)
        return np.stack([0.5 + side * lateral, height], axis=1)

    def lung(self, side: int) -> Outline:
        """Outline of a lung: wall, diaphragm dome, mediastinum."""
        wall = self.wall(side, np.linspace(0, 1, 24))
        across = np.linspace(1, 0, 16)[1:]
        dome_height = self.angle_height(side) - self.dome * np.sin(np.pi * (0.08 + 0.66 * (1 - across)))
        inner = 0.07
        dome = np.stack([0.5 + side * (inner + across * (self.half_width - inner)), dome_height], axis=1)
        medial = np.array(
            [
                [0.5 + side * 0.06, self.bases[side] - 0.2],
                [0.5 + side * 0.05, self.top + 0.10],
                [0.5 + side * 0.07, self.top + 0.02],
            ]
        )
        return np.concatenate([wall, dome, medial])

    def heart(self) -> Outline:
        """Outline of the heart, as wide as the heart ratio tells, its apex to the patient's left."""
        width = self.heart_ratio * 2 * self.half_width
        base = (self.bases[RIGHT] + self.bases[LEFT]) / 2
        return rounded(HEART * (width, 0.6 * width + 0.08) + (0.5, base))

    def place(self, side: int, depth: float, across: float) -> tuple[float, float]:
        """A point of a lung: `across` runs from 0 beside the mediastinum to 1 at the chest wall."""
        x, y = self.wall(side, depth)[0]
        inner = 0.5 + side * 0.09
        return inner + across * (x - inner), y

    def hilum(self, side: int) -> tuple[float, float]:
        """Where the lung's vessels enter."""
        return 0.5 + side * 0.075, self.top + 0.5 * (self.bases[RIGHT] - self.top)


def draw_chest(rng: np.random.Generator, sex: str) -> Chest:
    """Draw a patient's proportions."""
    base = rng.uniform(0.70, 0.77)
    return Chest(
        half_width=rng.uniform(0.31, 0.37),
        top=rng.uniform(0.10, 0.15),
        bases={RIGHT: base, LEFT: base + rng.uniform(0.01, 0.03)},
        dome=rng.uniform(0.07, 0.11),
        heart_ratio=rng.uniform(0.40, 0.46),
        fat=rng.uniform(0.03, 0.09),
        rib_pitch=rng.uniform(0.062, 0.072),
        knob=rng.uniform(0.026, 0.042),
        clavicle=rng.uniform(0.02, 0.07),
        breast=rng.uniform(0.11, 0.17) if sex == "F" else 0.0,
    )


def body_layer(canvas: Canvas, chest: Chest, arms_down: bool) -> np.ndarray:
    """Absorption of skin, muscle and abdomen: 0 outside of the body, about 1 in the trunk."""
    coarse = canvas.coarse()
    flank = chest.half_width + chest.fat
    shoulder = 0.19 if arms_down else 0.16
    elbow = 0.9 if arms_down else 0.55
    half = np.array(
        [
            (0.08, -0.2),
            (0.085, 0.04),
            (0.14, 0.09),
            (0.30, shoulder - 0.03),
            (0.42, shoulder),
            (0.50, shoulder + 0.08),
            (0.62, elbow),
            (0.53, elbow),
            (flank + 0.025, 0.42),
            (flank - 0.005, 0.55),
            (flank, 0.8),
            (flank + 0.01, 1.3),
        ]
    )
    body = coarse.areas([mirrored(half)], soften=0.016)
    trunk = coarse.areas([ellipse(0.5, 0.75, flank * 1.02, 0.68)], soften=0.06)
    abdomen = coarse.areas([ellipse(0.5, 1.05, flank, 0.36)], soften=0.06)
    layer = body * (0.5 + 0.5 * trunk + 0.25 * abdomen)
    if chest.breast:
        y = chest.bases[RIGHT] - 0.02
        breasts = [ellipse(0.5 + side * 0.22, y, chest.breast, chest.breast * 0.9) for side in (RIGHT, LEFT)]
        layer += 0.13 * coarse.areas(breasts, soften=0.012)
    return enlarge(layer, canvas.side)


def bone_layer(canvas: Canvas, chest: Chest, arms_down: bool) -> np.ndarray:
    """Absorption of ribs, clavicles, spine, shoulder blades and upper arms."""
    both = np.array([RIGHT, LEFT])
    rise = chest.clavicle + (0.03 if arms_down else 0.0)
    clavicle = [(0.03, 0.0), (0.12, -0.004 - 0.2 * rise), (0.2, -0.022 - 0.6 * rise), (0.33, -0.02 - rise)]
    clavicles = [np.array(clavicle) * (side, 1) + (0.5, chest.top + 0.08) for side in both]
    blade_tip = 0.22 if arms_down else 0.28
    blade = [(0.22, 0.20), (0.40, 0.16), (0.37, 0.28), (blade_tip, 0.47)]
    blades = [np.array(blade) * (side, 1) + (0.5, 0.0) for side in both]
    heads = [ellipse(0.5 + side * 0.445, 0.215, 0.042, 0.045) for side in both]
    shafts = [np.array([(0.455, 0.23), (0.56, 0.75)]) * (side, 1) + (0.5, 0) for side in both]
    walls = [chest.wall(side, np.linspace(0.03, 1, 20)) + (side * 0.006, 0) for side in both]
    heights = np.arange(-0.02, 1.02, 0.052)
    vertebrae = list(rounded(VERTEBRA) + np.stack([0 * heights, heights], axis=1)[:, None])
    processes = list(ellipse(0.5, 0.012, 0.007, 0.014) + np.stack([0 * heights, heights], axis=1)[:, None])
    posterior, anterior = ribs(chest)
    edges = [rib + (0, shift) for rib in posterior for shift in (-0.011, 0.011)]
    return (
        Layer(canvas)
        .add_lines(posterior, [0.024] * len(posterior), weight=0.11)
        .add_lines(edges, [0.004] * len(edges), weight=0.09)
        .add_lines(anterior, [0.021] * len(anterior), weight=0.06)
        .add_lines(walls, [0.012] * 2, weight=0.12)
        .add_lines(clavicles, [0.030] * 2, weight=0.17)
        .add_lines(clavicles, [0.014] * 2, weight=0.05)
        .add_areas(blades, weight=0.06)
        .add_areas(heads, weight=0.16)
        .add_lines(shafts, [0.05] * 2, weight=0.14)
        .add_areas(vertebrae, weight=0.10)
        .add_areas(processes, weight=0.07)
        .soften(0.002)
    )


def ribs(chest: Chest) -> tuple[list[Outline], list[Outline]]:
    """Midlines of the ribs: eleven posterior ones a side, and the anterior ends of seven."""
    posterior: list[Outline] = []
    anterior: list[Outline] = []
    number = np.arange(11)[:, None]
    along = np.linspace(0, 1, 14)
    start = chest.top + 0.005 + number * chest.rib_pitch
    for side in (RIGHT, LEFT):
        depth = np.clip((start + 0.06 - chest.top) / (chest.angle_height(side) - chest.top), 0.03, 1.0)
        reach = np.abs(chest.wall(side, depth[:, 0])[:, :1] - 0.5) + 0.012
        x = 0.045 + along * (reach - 0.045)
        y = start + reach * ((0.2 + 0.02 * number) * along**2.2 - 0.10 * np.sin(np.pi * along))
        front_x = reach * (1 - along * (0.45 - 0.02 * number))
        front_y = y[:, -1:] + 0.30 * reach * along**0.8 + 0.02 * np.sin(np.pi * along)
        posterior += list(np.stack([0.5 + side * x, y], axis=2))
        anterior += list(np.stack([0.5 + side * front_x, front_y], axis=2)[1:8])
    return posterior, anterior


def mediastinum_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    """Coverage of the great vessels and the aortic knob, negative in the windpipe."""
    top = chest.top
    half = np.array([(0.05, -0.1), (0.042, top + 0.12), (0.06, 0.55), (0.06, 1.2)])
    knob = ellipse(0.545, top + 0.17, chest.knob, chest.knob * 1.1)
    trunk = ellipse(0.545, top + 0.27, 0.035, 0.07)
    coarse = canvas.coarse()
    covered = coarse.areas([mirrored(half), knob, trunk], soften=0.011)
    windpipe = [np.array([(0.5, -0.1), (0.502, top + 0.1), (0.495, top + 0.2)])]
    return enlarge(covered - 1.4 * coarse.lines(windpipe, [0.032], soften=0.01), canvas.side)


def vessel_layer(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """The lungs' markings: vessels that branch from the hila and thin out towards the chest wall."""
    fan = np.linspace(-1.35, 1.25, 7)
    starts = np.repeat([chest.hilum(side) for side in (RIGHT, LEFT)], len(fan), axis=0)
    angles = np.concatenate([np.pi - fan, fan]) + rng.normal(0, 0.12, 2 * len(fan))
    lengths = rng.uniform(0.12, 0.18, 2 * len(fan))
    widths = rng.uniform(0.007, 0.010, 2 * len(fan))
    layer = Layer(canvas)
    for _ in range(3):
        bends = angles[:, None] + np.cumsum(rng.normal(0, 0.16, (len(angles), 4)), axis=1)
        steps = lengths[:, None, None] / 4 * np.stack([np.cos(bends), np.sin(bends)], axis=2)
        paths = np.concatenate([starts[:, None], starts[:, None] + np.cumsum(steps, axis=1)], axis=1)
        layer.add_lines(list(paths), widths.tolist(), weight=0.5)
        # Each vessel forks half-way and at its end.
        starts = paths[:, [2, 2, 4, 4]].reshape(-1, 2)
        angles = (bends[:, -1:] + np.array([-0.5, 0.4, -0.4, 0.5])).ravel()
        lengths, widths = np.repeat(lengths * 0.6, 4), np.repeat(widths * 0.55, 4)
    return layer.soften(0.002)
