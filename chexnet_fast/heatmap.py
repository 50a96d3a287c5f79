"""Class activation maps: where in an X-ray the model finds the evidence for a finding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from chexnet_fast.model import ChexNet
from chexnet_fast.plots import COLORS, GRID, MUTED, STYLE, display_name
from shards.errors import UserError

COLOR_MAP = "inferno"
"""Even steps to the eye, and safe for colour-blind ones."""
MAX_LOG_RATIO = float(np.log(32))
"""The colours end at 32 times the prevalence, and at one 32nd: the same colours mean the same in every picture."""
MAX_ALPHA = 0.6
"""The map is clear where the finding is rarest, and lets the X-ray through even where it is likeliest."""
BOX_COLOR = "#00e5ff"
RATIO_TICKS = {"1/32": 1 / 32, "1/8": 1 / 8, "1/2": 1 / 2, "1": 1, "2": 2, "8": 8, "32": 32}
TRUTH = {1.0: "yes", 0.0: "no"}


def activation_map(model: ChexNet, images: torch.Tensor, finding_index: int) -> torch.Tensor:
    """Compute the class activation map of one finding (Zhou et al., 2016), as reproduce-chexnet does.

    The last features are weighted with the classifier's row for the finding, and its bias is added at each place. So
    the mean over the map is the model's logit for the finding.

    Args:
        model: its `.features(images)` are (B, C, h, w), and its `.backbone.classifier` works on their mean over places.
        images: what the model takes.
        finding_index: the finding's place among the model's outputs.

    Returns:
        (B, h, w) float32 logits on the model's device; 7 x 7 for images of 224 pixels.
    """
    classifier = model.backbone.classifier
    with torch.no_grad():
        features = model.features(images).float()
        weights = classifier.weight[finding_index].float()
        return torch.einsum("bchw,c->bhw", features, weights) + classifier.bias[finding_index].float()


def log_ratio(logits: torch.Tensor, prevalence: float) -> torch.Tensor:
    """Return log(sigmoid(logits) / prevalence): above 0 where the finding is likelier than in the training fold.

    Args:
        logits: any shape.
        prevalence: the finding's share of positives in the training fold.

    Raises:
        UserError: if the prevalence is 0 or NaN, so that no ratio exists.
    """
    if not 0 < prevalence <= 1:
        raise UserError(f"prevalence {prevalence}: the training fold has no positive image, choose another finding")
    return torch.nn.functional.logsigmoid(logits) - float(np.log(prevalence))


@rc_context(STYLE)
def draw_heatmap(
    image: np.ndarray,
    log_ratio_map: np.ndarray,
    probabilities: Mapping[str, float],
    labels: Mapping[str, float] | None,
    boxes: Sequence[tuple[float, float, float, float]],
    finding: str,
    title: str,
) -> Figure:
    """Draw an X-ray, the X-ray under a finding's activation map, and a table of every finding.

    Args:
        image: (H, W) uint8.
        log_ratio_map: (h, w) float, as `log_ratio` returns; it covers the whole image and is enlarged smoothly.
        probabilities: the predicted probability of each finding, in the table's order.
        labels: 1, 0 or NaN per finding; None where nothing is known.
        boxes: x, y, width, height of the finding's known boxes in the image's pixels.
        finding: the finding that the map is of.
        title: a line above the picture, such as the image's name.
    """
    figure = Figure(figsize=(13, 4.95))
    widths = (1, 1, 0.045, 0.68)
    plain, mapped, bar, table = figure.subplots(1, 4, width_ratios=widths)
    height, width = image.shape
    for axes in (plain, mapped):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        for x, y, box_width, box_height in boxes:
            axes.add_patch(Rectangle((x, y), box_width, box_height, fill=False, edgecolor=BOX_COLOR, linewidth=1.8))
        axes.set_axis_off()
    plain.set_title(title)
    mapped.set_title(f"P({display_name(finding)}) = {probabilities[finding]:.3f}")
    smooth = Image.fromarray(log_ratio_map.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    _draw_map(mapped, np.asarray(smooth), extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    bar.set_box_aspect(1 / widths[2])
    _draw_color_bar(bar)
    table.set_box_aspect(1 / widths[3])
    _draw_findings(table, probabilities, labels, finding)
    return figure


def _draw_map(axes: Axes, log_ratios: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """Lay log ratios over what the axes show: colour and opacity both grow with the value."""
    shown = Normalize(-MAX_LOG_RATIO, MAX_LOG_RATIO, clip=True)(log_ratios)
    axes.imshow(shown, cmap=COLOR_MAP, vmin=0, vmax=1, alpha=MAX_ALPHA * shown, extent=extent, aspect=axes.get_aspect())


def _draw_color_bar(axes: Axes) -> None:
    """Draw the map's colours as they look over a grey X-ray."""
    extent = (0, 1, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    axes.imshow([[0.5]], cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")
    _draw_map(axes, np.linspace(MAX_LOG_RATIO, -MAX_LOG_RATIO, 256)[:, None], extent)
    axes.grid(visible=False)
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_xticks([])
    axes.set_yticks(np.log(list(RATIO_TICKS.values())), [f"log {name}" for name in RATIO_TICKS])
    axes.set_ylabel("log(probability here / prevalence in training)", fontsize=8)


def _draw_findings(
    axes: Axes, probabilities: Mapping[str, float], labels: Mapping[str, float] | None, finding: str
) -> None:
    """Draw a row per finding: name, probability as text and bar, and the truth where it is known."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(probabilities) + 0.2, -1.2))
    header: dict[str, Any] = {"color": MUTED, "fontsize": 8, "va": "center"}
    axes.text(0, -0.8, "finding", **header)
    axes.text(0.79, -0.8, "P", ha="right", **header)
    axes.text(1, -0.8, "truth", ha="right", **header)
    for row, (name, probability) in enumerate(probabilities.items()):
        chosen = name == finding
        truth = TRUTH[labels[name]] if labels is not None and labels[name] in TRUTH else "unknown"
        style: dict[str, Any] = {"va": "center", "fontsize": 8.5, "fontweight": "bold" if chosen else "normal"}
        axes.add_patch(Rectangle((0, row + 0.3), 0.79, 0.12, color=GRID))
        axes.add_patch(Rectangle((0, row + 0.3), 0.79 * probability, 0.12, color=COLORS[1] if chosen else COLORS[0]))
        axes.text(0, row, display_name(name), **style)
        axes.text(0.79, row, f"{probability:.3f}", ha="right", **style)
        axes.text(1, row, truth, ha="right", color=COLORS[1] if truth == "yes" else MUTED, **style)
