"""Augmentations by name: what is done to an image, computed from the epoch's draws. NumPy alone, no DALI.

An augmentation is a chain of steps: an operation that `pipelines.operators` has for DALI, and inputs that are computed
here for each image from its uniform draws. So they depend on (seed, epoch, place) alone. Each step takes and yields
8 bits, at the size that the model is to see.

CheXphoto's transforms are those of Phillips et al. (2020), with the numbers of their published code. Their lengths are
in pixels of the original image, and are scaled to `size` as if the shorter side of every original measured
ORIGINAL_SIZE. Rotation and translation are uniform up to the level's reach, and keep the image's scale.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipelines.geometry import CORNERS, crop, rotation, tile_matrices, tilt, translation
from pipelines.overlays import NUM_MOIRES, bar, bell, moire_overlays
from shards.errors import UserError

ORIGINAL_SIZE = 1024
"""The side of NIH's images in pixels."""
LEVELS = (1, 2, 3, 4)
BLUR_SIGMA = {1: 1.5, 2: 3.0, 3: 6.0, 4: 10.0}
MOTION_LENGTH = {1: 2, 2: 10, 3: 25, 4: 45}
FACTOR_UP = {1: 1.10, 2: 1.40, 3: 1.60, 4: 1.80}
FACTOR_DOWN = {1: 1 / 1.2, 2: 1 / 1.8, 3: 1 / 2.2, 4: 1 / 2.6}

Inputs = tuple[np.ndarray, ...]
"""What an operation takes besides the images: arrays whose first axis is the image."""


@dataclass(frozen=True)
class Step:
    """An operation, and how its inputs follow from (B, num_draws) float64 uniforms in [0, 1)."""

    operation: str
    num_draws: int
    num_inputs: int
    inputs: Callable[[np.ndarray], Inputs]


def parse_augment(name: str, size: int) -> tuple[Step, ...]:
    """Return the steps of an augmentation.

    Args:
        name: "none"; "standard" (random resized crop, rotation up to 7 degrees, brightness and contrast);
            "chexphoto-digital" or "chexphoto-photographic", the published sets, at level 1; or one of CheXphoto's
            transforms with its level, 1 to 4, as in "chexphoto-blur-3".
        size: the side of the images in pixels.

    Raises:
        UserError: if there is no such augmentation.
    """
    if name in AUGMENTATIONS:
        return AUGMENTATIONS[name](size)
    family, _, transform = name.partition("-")
    transform, _, level = transform.rpartition("-")
    if family != "chexphoto" or transform not in CHEXPHOTO or level not in map(str, LEVELS):
        raise UserError(
            f"--augment {name}: choose {', '.join(AUGMENTATIONS)}, or chexphoto-TRANSFORM-LEVEL with a level of 1 to 4 "
            f"and one of {', '.join(CHEXPHOTO)}"
        )
    return CHEXPHOTO[transform](int(level), size)


def num_draws(steps: tuple[Step, ...]) -> int:
    """Return how many uniforms the steps take for an image."""
    return sum(step.num_draws for step in steps)


def step_inputs(steps: tuple[Step, ...], draws: np.ndarray) -> list[np.ndarray]:
    """Return all inputs of the steps, in order, from (B, num_draws) uniforms."""
    inputs: list[np.ndarray] = []
    for step in steps:
        inputs += step.inputs(draws[:, : step.num_draws])
        draws = draws[:, step.num_draws :]
    return inputs


def _warp(num_draws: int, maps: Callable[[np.ndarray], np.ndarray], size: int) -> Step:
    return Step("warp", num_draws, 1, lambda draws: (tile_matrices(maps(draws), size),))


def _tone(operation: str, num_draws: int, factors: Callable[[np.ndarray], np.ndarray]) -> Step:
    return Step(operation, num_draws, 1, lambda draws: (factors(draws).astype(np.float32),))


def _fixed(operation: str, value: np.ndarray) -> Step:
    """Return a step whose input is the same for all images."""
    return Step(operation, 0, 1, lambda draws: (np.repeat(value[None].astype(np.float32), len(draws), axis=0),))


def _standard(size: int) -> tuple[Step, ...]:
    """Vary what varies between X-rays: field of view, posture, exposure."""
    return (
        _warp(5, _turned_crop, size),
        _tone("brighten", 1, lambda draws: 0.8 + 0.4 * draws[:, 0]),
        _tone("contrast", 1, lambda draws: 0.8 + 0.4 * draws[:, 0]),
    )


def _turned_crop(draws: np.ndarray) -> np.ndarray:
    """Crop 70 to 100 % of the area with sides as 3:4 to 4:3, and turn by up to 7 degrees."""
    area, log_ratio = 0.7 + 0.3 * draws[:, 0], np.log(4 / 3) * (2 * draws[:, 1] - 1)
    width = np.minimum(np.sqrt(area * np.exp(log_ratio)), 1)
    height = np.minimum(np.sqrt(area / np.exp(log_ratio)), 1)
    cropped = crop(draws[:, 2] * (1 - width), draws[:, 3] * (1 - height), width, height)
    return rotation(7 * (2 * draws[:, 4] - 1)) @ cropped


def _blur(level: int, size: int) -> tuple[Step, ...]:
    """Blur with a Gaussian, across and then down."""
    sigma = _pixels(BLUR_SIGMA[level], size)
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    return (_fixed("filter", weights[None]), _fixed("filter", weights[:, None]))


def _motion(level: int, size: int) -> tuple[Step, ...]:
    """Average over a horizontal path, between whose pixels the image is interpolated."""
    length = _pixels(MOTION_LENGTH[level], size)
    reach = int(np.ceil(length / 2))
    path = (np.arange(512) + 0.5) / 512 * length - length / 2
    weights = np.maximum(1 - np.abs(path - np.arange(-reach, reach + 1)[:, None]), 0).mean(axis=1)
    return (_fixed("filter", weights[None]),)


def _brightness(factors: dict[int, float]) -> Callable[[int, int], tuple[Step, ...]]:
    return lambda level, size: (_fixed("brighten", np.array(factors[level])),)


def _contrast(factors: dict[int, float]) -> Callable[[int, int], tuple[Step, ...]]:
    return lambda level, size: (_fixed("contrast", np.array(factors[level])),)


def _glare_matte(level: int, size: int) -> tuple[Step, ...]:
    """Reflect a soft white light from a random place."""
    sigma, peak, ceiling = _pixels(50 * level, size), 100 * level / 255, (150 + 20 * level) / 255

    def profiles(draws: np.ndarray) -> Inputs:
        rows, columns = bell(size * draws[:, 1], sigma, size), bell(size * draws[:, 0], sigma, size)
        return _profiles(peak * rows, columns, np.full(len(draws), ceiling))

    return (Step("whiten", 2, 3, profiles),)


def _glare_glossy(level: int, size: int) -> tuple[Step, ...]:
    """Reflect a white rectangle: at a corner, at the middle of a side, or about the centre."""

    def profiles(draws: np.ndarray) -> Inputs:
        cells = (9 * draws[:, 0]).astype(int)
        rows, columns = (
            bar(*_edges(cell, (0.1 * level + 0.05 * draws[:, axis]) * size, 0.3 + 0.4 * draws[:, axis + 2], size), size)
            for cell, axis in ((cells // 3, 1), (cells % 3, 2))
        )
        opacity = (150 + 20 * level + 20 * draws[:, 5]) / 255
        return _profiles(rows, columns, opacity)

    return (Step("whiten", 6, 3, profiles),)


def _profiles(rows: np.ndarray, columns: np.ndarray, ceilings: np.ndarray) -> Inputs:
    """Shape (B, size) opacities of rows and columns so that their product is an image's."""
    return tuple(array.astype(np.float32) for array in (rows[:, :, None, None], columns[:, None, :, None], ceilings))


def _edges(cells: np.ndarray, lengths: np.ndarray, centres: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return start and end of bars at the start (cell 0) or the end (2) of a side, or about their centres (1)."""
    starts = np.choose(cells, [np.zeros_like(lengths), centres * size - lengths / 2, size - lengths])
    return starts, starts + lengths


def _moire(level: int, size: int) -> tuple[Step, ...]:
    """Show the lines of a screen."""

    def patterns(draws: np.ndarray) -> Inputs:
        return (moire_overlays(level, size, ORIGINAL_SIZE)[(NUM_MOIRES * draws[:, 0]).astype(int)],)

    return (Step("darken", 1, 1, patterns),)


def _tilt(level: int, size: int) -> tuple[Step, ...]:
    """Move each corner inwards, by up to 5 % of the side per level in x and y."""

    def maps(draws: np.ndarray) -> np.ndarray:
        return tilt(CORNERS + (1 - 2 * CORNERS) * 0.05 * level * draws.reshape(-1, 4, 2))

    return (_warp(8, maps, size),)


def _rotation(level: int, size: int) -> tuple[Step, ...]:
    return (_warp(1, lambda draws: rotation(5 * level * (2 * draws[:, 0] - 1)), size),)


def _translation(level: int, size: int) -> tuple[Step, ...]:
    reach = 20 * level / ORIGINAL_SIZE
    return (_warp(2, lambda draws: translation(*(reach * (2 * draws.T - 1))), size),)


def _exposure(level: int, size: int) -> tuple[Step, ...]:
    """Apply a sigmoid curve, the same at all levels."""
    return (Step("expose", 0, 0, lambda draws: ()),)


def _digital(size: int) -> tuple[Step, ...]:
    """Change the contrast, then the brightness, each up or down."""
    return tuple(
        _tone(operation, 1, lambda draws: np.where(draws[:, 0] < 0.5, FACTOR_UP[1], FACTOR_DOWN[1]))
        for operation in ("contrast", "brighten")
    )


def _photographic(size: int) -> tuple[Step, ...]:
    return _glare_matte(1, size) + _moire(1, size) + _tilt(1, size)


def _pixels(length: float, size: int) -> float:
    """Return a length in pixels of the original in those of the image."""
    return length * size / ORIGINAL_SIZE


AUGMENTATIONS: dict[str, Callable[[int], tuple[Step, ...]]] = {
    "none": lambda size: (),
    "standard": _standard,
    "chexphoto-digital": _digital,
    "chexphoto-photographic": _photographic,
}
CHEXPHOTO: dict[str, Callable[[int, int], tuple[Step, ...]]] = {
    "blur": _blur,
    "motion": _motion,
    "brightness-up": _brightness(FACTOR_UP),
    "brightness-down": _brightness(FACTOR_DOWN),
    "contrast-up": _contrast(FACTOR_UP),
    "contrast-down": _contrast(FACTOR_DOWN),
    "glare-matte": _glare_matte,
    "glare-glossy": _glare_glossy,
    "moire": _moire,
    "tilt": _tilt,
    "rotation": _rotation,
    "translation": _translation,
    "exposure": _exposure,
    "identity": lambda level, size: (),
}
