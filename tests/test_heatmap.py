import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from chexnet_fast.heatmap import activation_map, draw_heatmap, log_ratio
from chexnet_fast.model import ChexNet
from chexnet_fast.plots import save_figure
from shards.errors import UserError


@pytest.fixture(scope="module")
def model() -> ChexNet:
    torch.manual_seed(0)
    return ChexNet(num_findings=3).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 1, 96, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_mean_over_the_map_is_the_models_logit(model: ChexNet, images: torch.Tensor) -> None:
    logits = model(images).detach()
    for index in range(3):
        found = activation_map(model, images, index)
        assert found.shape == (2, 3, 2)
        torch.testing.assert_close(found.mean((1, 2)), logits[:, index])


def test_the_map_depends_on_the_finding_in_shape_not_only_in_level(model: ChexNet, images: torch.Tensor) -> None:
    maps = [activation_map(model, images, index) for index in range(2)]
    centred = [found - found.mean((1, 2), keepdim=True) for found in maps]
    assert (centred[0] - centred[1]).abs().max() > 0.1 * centred[0].abs().max()


def test_the_map_is_high_where_the_evidence_lies() -> None:
    class Brightness(torch.nn.Module):
        """Features are the pixels themselves, and finding 1 is their brightness."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = torch.nn.Module()
            self.backbone.classifier = torch.nn.Linear(1, 2)
            torch.nn.init.constant_(self.backbone.classifier.weight[1], 4)
            torch.nn.init.constant_(self.backbone.classifier.bias, -1)

        def features(self, images: torch.Tensor) -> torch.Tensor:
            return images

    image = torch.zeros(1, 1, 7, 7)
    image[0, 0, 2, 5] = 1
    found = activation_map(Brightness(), image, 1)
    assert found[0, 2, 5] == 3
    assert found.sum() == 3 - 48


@given(st.floats(-80, 30), st.floats(0.001, 1))
def test_log_ratio_is_the_logarithm_of_the_ratio(logit: float, prevalence: float) -> None:
    expected = -math.log1p(math.exp(-logit)) - math.log(prevalence)
    assert log_ratio(torch.tensor(logit, dtype=torch.float64), prevalence).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("prevalence", [0.0, float("nan")])
def test_a_finding_never_seen_in_training_has_no_ratio(prevalence: float) -> None:
    with pytest.raises(UserError, match="no positive image"):
        log_ratio(torch.zeros(1), prevalence)


def drawn(log_ratios: np.ndarray, labels: dict[str, float] | None) -> Figure:
    image = np.full((100, 80), 128, np.uint8)
    probabilities = {"Mass": 0.25, "Pleural_Thickening": 0.5}
    return draw_heatmap(image, log_ratios, probabilities, labels, [(10, 20, 30, 40)], "Mass", "00000001_000.png")


def test_the_picture_holds_both_views_the_box_and_the_truth() -> None:
    figure = drawn(np.zeros((7, 7)), {"Mass": 1.0, "Pleural_Thickening": float("nan")})
    plain, mapped, bar, table = figure.axes
    assert (plain.get_title(loc="left"), mapped.get_title(loc="left")) == ("00000001_000.png", "P(Mass) = 0.250")
    for axes in (plain, mapped):
        boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert [(*box.get_xy(), box.get_width(), box.get_height()) for box in boxes] == [(10, 20, 30, 40)]
    assert "prevalence" in bar.get_ylabel()
    texts = [text.get_text() for text in table.texts]
    assert texts[3:] == ["Mass", "0.250", "yes", "Pleural Thickening", "0.500", "unknown"]


def test_truth_is_unknown_without_labels() -> None:
    assert [text.get_text() for text in drawn(np.zeros((7, 7)), None).axes[3].texts].count("unknown") == 2


def test_the_map_lies_over_the_whole_image_and_marks_its_highest_place() -> None:
    log_ratios = np.full((5, 4), -10.0)
    log_ratios[4, 3] = 10
    overlay = drawn(log_ratios, None).axes[1].images[1]
    alpha = overlay.get_alpha()
    assert alpha.shape == (100, 80)
    assert overlay.get_extent() == [-0.5, 79.5, 99.5, -0.5]
    assert alpha[95, 75] == pytest.approx(0.6)
    assert alpha[:40, :40].max() == 0


def test_the_picture_can_be_saved(tmp_path: Path) -> None:
    save_figure(drawn(np.random.default_rng(0).normal(size=(7, 7)), None), tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 10_000
