"""The phantom's normal anatomy: a patient's proportions, the chest's outlines, and what absorbs the rays."""

from dataclasses import dataclass

import numpy as np

from shards.datasets.phantom_canvas import Canvas, Path, ellipse

RIGHT, LEFT = -1, 1
"""The patient's sides: the right lung is on the image's left."""


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

    def wall(self, side: int, depth: np.ndarray | float) -> Path:
        """Points of the inner chest wall; depth runs from 0 at the apex to 1 at the costophrenic angle."""
        depth = np.atleast_1d(depth)
        lateral = 0.06 + (self.half_width - 0.06) * (1 - (1 - depth) ** 2.6) ** 0.53
        height = self.top + depth * (self.angle_height(side) - self.top)
        return np.stack([0.5 + side * lateral, height], axis=1)

    def lung(self, side: int) -> Path:
        """Outline of a lung: wall, diaphragm dome, mediastinum."""
        wall = self.wall(side, np.linspace(0, 1, 24))
        across = np.linspace(1, 0, 16)[1:]
        dome_height = self.angle_height(side) - self.dome * np.sin(np.pi * (0.08 + 0.78 * (1 - across)))
        inner = 0.07
        dome = np.stack([0.5 + side * (inner + across * (self.half_width - inner)), dome_height], axis=1)
        medial = np.array([[0.5 + side * 0.06, self.bases[side] - 0.2], [0.5 + side * 0.035, self.top + 0.08]])
        return np.concatenate([wall, dome, medial])

    def heart(self) -> Path:
        """Outline of the heart: an ellipse, leaning to the patient's left, whose width is the heart ratio's."""
        width = self.heart_ratio * 2 * self.half_width
        a = width / 1.87
        height = 0.86 * a
        base = (self.bases[RIGHT] + self.bases[LEFT]) / 2
        return ellipse(0.5 + 0.17 * width, base + 0.05 - height, a, 0.8 * a, tilt=35)

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
    mirrored = half[::-1] * (-1, 1)
    body = canvas.areas([np.concatenate([half, mirrored]) + (0.5, 0)], soften=0.012)
    trunk = canvas.areas([ellipse(0.5, 0.75, flank * 1.02, 0.68)], soften=0.06)
    abdomen = canvas.areas([ellipse(0.5, 1.05, flank, 0.36)], soften=0.06)
    layer = body * (0.55 + 0.45 * trunk + 0.25 * abdomen)
    if chest.breast:
        y = chest.bases[RIGHT] - 0.02
        breasts = [ellipse(0.5 + side * 0.22, y, chest.breast, chest.breast * 0.9) for side in (RIGHT, LEFT)]
        layer += 0.13 * canvas.areas(breasts, soften=0.006)
    return layer


def bone_layer(canvas: Canvas, chest: Chest, arms_down: bool) -> np.ndarray:
    """Absorption of ribs, clavicles, spine, shoulder blades and upper arms."""
    ribs, rib_edges, thin = [], [], []
    along = np.linspace(0, 1, 14)
    for number in range(11):
        for side in (RIGHT, LEFT):
            start = chest.top + 0.005 + number * chest.rib_pitch
            depth = (start + 0.06 - chest.top) / (chest.angle_height(side) - chest.top)
            reach = abs(chest.wall(side, float(np.clip(depth, 0.03, 1.0)))[0, 0] - 0.5) + 0.012
            x = 0.045 + along * (reach - 0.045)
            drop = (0.2 + 0.02 * number) * reach
            y = start - 0.10 * reach * np.sin(np.pi * along) + drop * along**2.2
            posterior = np.stack([0.5 + side * x, y], axis=1)
            ribs.append(posterior)
            rib_edges += [posterior - (0, 0.011), posterior + (0, 0.011)]
            if 1 <= number <= 7:
                front_x = reach - along * reach * (0.45 - 0.02 * number)
                front_y = y[-1] + 0.30 * reach * along**0.8 + 0.02 * np.sin(np.pi * along)
                thin.append(np.stack([0.5 + side * front_x, front_y], axis=1))
    layer = 0.10 * canvas.strokes(ribs, [0.024] * len(ribs), soften=0.002)
    layer += 0.09 * canvas.strokes(rib_edges, [0.004] * len(rib_edges), soften=0.0015)
    layer += 0.06 * canvas.strokes(thin, [0.021] * len(thin), soften=0.004)

    walls = [chest.wall(side, np.linspace(0.03, 1, 20)) + (side * 0.006, 0) for side in (RIGHT, LEFT)]
    rise = chest.clavicle + (0.03 if arms_down else 0.0)
    clavicles = [
        np.array([(0.035, 0.0), (0.12, -0.004 - 0.2 * rise), (0.2, -0.022 - 0.6 * rise), (0.33, -0.02 - rise)])
        * (side, 1)
        + (0.5, chest.top + 0.075)
        for side in (RIGHT, LEFT)
    ]
    blade_reach = 0.8 if arms_down else 1.05
    blades = [
        np.array([(0.22, 0.20), (0.40, 0.16), (0.37, 0.28), (0.27 * blade_reach, 0.47)]) * (side, 1) + (0.5, 0.0)
        for side in (RIGHT, LEFT)
    ]
    heads = [ellipse(0.5 + side * 0.445, 0.215, 0.042, 0.045) for side in (RIGHT, LEFT)]
    shafts = [np.array([(0.455, 0.23), (0.56, 0.75)]) * (side, 1) + (0.5, 0) for side in (RIGHT, LEFT)]
    layer += 0.13 * canvas.strokes([*walls, *clavicles], [0.012] * 2 + [0.026] * 2, soften=0.003)
    layer += 0.07 * canvas.strokes(clavicles, [0.014] * 2, soften=0.003)
    layer += 0.05 * canvas.areas(blades, soften=0.004)
    layer += 0.16 * canvas.areas(heads, soften=0.004) + 0.14 * canvas.strokes(shafts, [0.05] * 2, soften=0.004)

    heights = np.arange(-0.02, 1.02, 0.052)
    vertebrae = [ellipse(0.5, y, 0.036 + 0.012 * y, 0.021) for y in heights]
    processes = [ellipse(0.5, y + 0.012, 0.007, 0.014) for y in heights]
    layer += 0.14 * canvas.areas(vertebrae, soften=0.004) + 0.08 * canvas.areas(processes, soften=0.002)
    return layer


def mediastinum_layer(canvas: Canvas, chest: Chest) -> np.ndarray:
    """Coverage of the great vessels and the aortic knob, with the windpipe as a dark band left out."""
    top = chest.top
    band = np.array([(-0.05, -0.1), (-0.045, top + 0.12), (-0.06, 0.55), (-0.06, 1.2), (0.06, 1.2), (0.07, 0.55)])
    upper = np.array([(0.045, top + 0.13), (0.05, -0.1)])
    outline = np.concatenate([band, upper]) + (0.5, 0)
    knob = ellipse(0.545, top + 0.17, chest.knob, chest.knob * 1.1)
    trunk = ellipse(0.545, top + 0.27, 0.035, 0.07)
    covered = canvas.areas([outline, knob, trunk], soften=0.006)
    windpipe = canvas.strokes([np.array([(0.5, -0.1), (0.502, top + 0.1), (0.495, top + 0.2)])], [0.03], soften=0.004)
    return covered - 0.22 * windpipe


def vessel_layer(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> np.ndarray:
    """The lungs' markings: vessels that branch from the hila and thin out towards the chest wall."""
    paths: list[Path] = []
    widths: list[float] = []

    def grow(start: np.ndarray, angle: float, length: float, width: float) -> None:
        bends = angle + np.cumsum(rng.normal(0, 0.16, 4))
        steps = length / 4 * np.stack([np.cos(bends), np.sin(bends)], axis=1)
        path = np.concatenate([start[None], start + np.cumsum(steps, axis=0)])
        paths.append(path)
        widths.append(width)
        if width > 0.003:
            for fork in (2, 4):
                for turn in (-0.45, 0.45):
                    grow(path[fork], bends[-1] + turn, length * 0.62, width * 0.58)

    for side in (RIGHT, LEFT):
        hilum = np.array(chest.hilum(side))
        for angle in np.linspace(-1.35, 1.25, 6):
            direction = angle if side == LEFT else np.pi - angle
            grow(hilum, direction + rng.normal(0, 0.1), rng.uniform(0.13, 0.18), rng.uniform(0.007, 0.010))
    return canvas.strokes(paths, widths, soften=0.0018)
