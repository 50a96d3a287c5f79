"""Show where a trained run sees a finding: heatmaps of image files, and of a fold's clearest cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from chexnet_fast import distributed
from chexnet_fast.heatmap import activation_map, draw_heatmap, log_ratio
from chexnet_fast.plots import save_figure
from chexnet_fast.predictions import Predictions
from chexnet_fast.trained import TrainedRun, load_run
from shards.codec import BadImageError, decode_image, fit_image
from shards.datasets.nih import read_boxes, read_nih_labels
from shards.errors import UserError
from shards.fold import Fold

BOX_SIDE = 1024
"""NIH's boxes are in pixels of images of this side."""
SHOWN_SIDE = 512
"""The least side of a drawn X-ray, in pixels: smaller ones look blurred in print."""


def draw_heatmaps(
    run: Path, images: Sequence[Path], finding: str, out: Path, boxes: Path | None, labels: Path | None, device: str
) -> list[Path]:
    """Draw a finding's heatmap for image files: what `chexnet-fast heatmap` does.

    Args:
        run: the run folder.
        images: PNG or JPEG files.
        finding: one of the run's findings.
        out: the folder for one PNG per image, named by the image and the finding.
        boxes: NIH's list of boxes, or None.
        labels: a label table that tells the truth, or None.
        device: "cpu" or "cuda".

    Returns:
        The files written, in the images' order.

    Raises:
        UserError: if the run, an image, the boxes or the labels cannot be read, or the finding is unknown.
    """
    with distributed.process_group(device) as torch_device:
        trained = load_run(run, torch_device)
        if finding not in trained.findings:
            raise UserError(f"--finding {finding}: this run predicts {', '.join(trained.findings)}")
        known_boxes = None if boxes is None else read_boxes(boxes)
        truth = None if labels is None else read_nih_labels(labels).set_index("image_id")
        out.mkdir(parents=True, exist_ok=True)
        written = []
        for file in images:
            picture = _read_image(file)
            image_labels = None if truth is None else _truth_of(truth, file.name, trained.findings)
            path = out / f"{file.stem}-{finding}.png"
            draw_one(trained, picture, finding, file.name, image_labels, known_boxes, path)
            written.append(path)
        return written


def draw_clearest(trained: TrainedRun, fold: Fold, predictions: Predictions, count: int, out: Path) -> dict[str, Path]:
    """Draw the heatmaps of a fold's clearest cases, each of another finding.

    The findings are those whose likeliest true positive has the highest probability relative to their prevalence.

    Args:
        trained: the run.
        fold: the predicted fold.
        predictions: its predictions, with labels.
        count: how many to draw; fewer where fewer findings have a positive image.
        out: the folder for the PNG files.

    Returns:
        The files by caption, clearest first.
    """
    labels = fold.labels
    prevalence = np.array([trained.prevalence[finding] for finding in trained.findings])
    with np.errstate(divide="ignore", invalid="ignore"):
        clearness = np.where((labels == 1) & (prevalence > 0), predictions.probabilities / prevalence, -np.inf)
    best = clearness.max(axis=0)
    out.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for index in np.argsort(-best, kind="stable")[:count]:
        if best[index] == -np.inf:
            break
        finding = trained.findings[index]
        position = int(clearness[:, index].argmax())
        image_id = str(fold.table["image_id"].iloc[position])
        path = out / f"{Path(image_id).stem}-{finding}.png"
        truth = dict(zip(trained.findings, labels[position].tolist(), strict=True))
        draw_one(trained, _sharpest(fold, position), finding, image_id, truth, None, path)
        drawn[f"{image_id}: {finding}"] = path
    return drawn


def draw_one(
    trained: TrainedRun,
    picture: Image.Image,
    finding: str,
    image_id: str,
    labels: Mapping[str, float] | None,
    boxes: pd.DataFrame | None,
    path: Path,
) -> None:
    """Predict one grey image of any size and save its heatmap to `path`."""
    pixels = np.array(fit_image(picture, trained.size))
    images = torch.from_numpy(pixels)[None, None].to(trained.device)
    with torch.inference_mode():
        probabilities = trained.model(images)[0].sigmoid().tolist()
    logits = activation_map(trained.model, images, trained.findings.index(finding))
    shown_side = max(SHOWN_SIDE, trained.size)
    figure = draw_heatmap(
        np.array(fit_image(picture, shown_side)),
        log_ratio(logits[0], trained.prevalence[finding]).cpu().numpy(),
        dict(zip(trained.findings, probabilities, strict=True)),
        labels,
        [] if boxes is None else _boxes_of(boxes, image_id, finding, shown_side / BOX_SIDE),
        finding,
        image_id,
    )
    save_figure(figure, path)


def _sharpest(fold: Fold, position: int) -> Image.Image:
    """Return the original of a packed image where it still lies where it was packed from, else the packed one."""
    original = Path(fold.table["path"].iloc[position])
    return _read_image(original) if original.is_file() else fold.image(position)


def _read_image(file: Path) -> Image.Image:
    try:
        return decode_image(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; give image files that exist") from error
    except BadImageError as error:
        raise UserError(f"{file}: {error}; give a PNG or JPEG image") from error


def _truth_of(labels: pd.DataFrame, image_id: str, findings: Sequence[str]) -> dict[str, float] | None:
    if image_id not in labels.index:
        return None
    return dict(zip(findings, labels.loc[image_id, list(findings)].tolist(), strict=True))


def _boxes_of(
    boxes: pd.DataFrame, image_id: str, finding: str, scale: float
) -> list[tuple[float, float, float, float]]:
    chosen = boxes[(boxes["image_id"] == image_id) & (boxes["finding"] == finding)]
    scaled = chosen[["x", "y", "width", "height"]].to_numpy() * scale
    return [(x, y, width, height) for x, y, width, height in scaled.tolist()]
