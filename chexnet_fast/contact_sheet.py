"""A contact sheet: what an augmentation makes of some packed images, to be looked at before it is trained with."""

from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from chexnet_fast.plots import STYLE, save_figure
from pipelines.dali import DaliLoader
from pipelines.order import EpochOrder
from pipelines.spec import InputSpec
from shards.fold import Fold, open_fold
from shards.manifest import read_manifest

NUM_IMAGES = 4
NUM_DRAWS = 5
SIZE = 224
"""The side of the images drawn where the shards keep each image's own."""


def draw_contact_sheet(shards: Path, augment: str, out: Path, seed: int = 0) -> Path:
    """Draw some training images, each beside draws of an augmentation: the pixels that the DALI loader yields.

    Draws are mirrored with probability 1/2, as in training.

    Args:
        shards: the shard folder.
        augment: the augmentation's name, see `pipelines.augment.parse_augment`.
        out: the folder to write.
        seed: fixes the draws.

    Returns:
        The PNG written, `<augment>.png`.

    Raises:
        UserError: if there is no such augmentation, or the shards cannot be read.
    """
    fold = open_fold(shards, read_manifest(shards), "train")
    fold = fold.take(np.linspace(0, len(fold) - 1, min(NUM_IMAGES, len(fold))).astype(int))
    size = fold.manifest.size or SIZE
    originals = _epochs(fold, InputSpec(size), 1, seed)
    draws = _epochs(fold, InputSpec(size, flip=0.5, augment=augment), NUM_DRAWS, seed)
    titles = ["original", *(f"draw {draw + 1}" for draw in range(NUM_DRAWS))]
    figure = _draw_grid(np.concatenate([originals, draws]), titles, list(fold.table["image_id"]), augment)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{augment}.png"
    save_figure(figure, path)
    return path


def _epochs(fold: Fold, spec: InputSpec, num_epochs: int, seed: int) -> np.ndarray:
    """Return (num_epochs, N, size, size) uint8: the fold in its own order, with each epoch's draws."""
    order = EpochOrder(len(fold), len(fold), seed, shuffle=False)
    loader = DaliLoader(fold, spec, order, torch.device("cpu"), num_threads=1)
    return np.stack([batch.images[:, 0].numpy().copy() for index in range(num_epochs) for batch in loader.epoch(index)])


@rc_context(STYLE)
def _draw_grid(images: np.ndarray, column_titles: list[str], row_titles: list[str], title: str) -> Figure:
    """Draw (columns, rows, side, side) images, as one picture with titles along its edges."""
    num_columns, num_rows, side, _ = images.shape
    pitch = side + side // 20
    framed = np.pad(images, ((0, 0), (0, 0), (0, pitch - side), (0, pitch - side)), constant_values=255)
    montage = framed.transpose(1, 2, 0, 3).reshape(num_rows * pitch, num_columns * pitch)
    figure = Figure(figsize=(1.9 * num_columns, 1.9 * num_rows))
    axes = figure.subplots()
    axes.imshow(montage, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title)
    axes.set_xticks(np.arange(num_columns) * pitch + side / 2, column_titles)
    axes.set_yticks(np.arange(num_rows) * pitch + side / 2, row_titles, rotation=90, va="center")
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure
