"""DenseNet-121 with one logit per finding, behind an input layer that takes the loaders' pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import timm
import torch
from timm.models.densenet import DenseNet
from torch import nn

from chexnet_fast.weights import load_weights
from pipelines.spec import IMAGENET_MEAN, IMAGENET_STD
from shards.errors import UserError

IMAGENET_WEIGHTS = "densenet121.tv_in1k"
"""timm's name of torchvision's ImageNet weights, which reproduce-chexnet starts from."""
SMALLEST_INPUT = 64
"""In pixels: below it the last features are one pixel, and batch norm cannot train on a batch of one image."""


class ChexNet(nn.Module):
    """Predict findings from chest X-rays: timm's DenseNet-121 with one logit per finding.

    Args:
        num_findings: the width of the last layer.
        pretrained: start from ImageNet weights (fetched and cached by timm) rather than random ones.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, num_findings: int, pretrained: bool = False) -> None:
        super().__init__()
        backbone = timm.create_model(IMAGENET_WEIGHTS, pretrained=pretrained, num_classes=num_findings)
        self.backbone = cast(DenseNet, backbone)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Turn pixels into the backbone's input.

        Args:
            images: (B, 1 or 3, H, W) uint8, or (B, 3, H, W) floating point, already normalised.

        Returns:
            (B, 3, H, W): floating-point images unchanged; uint8 ones as float32, bit for bit what torchvision's
            ToTensor and Normalize give for the image with three equal channels.
        """
        if images.is_floating_point():
            return images
        return (images.float() / 255 - self.mean) / self.std

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the last features after their ReLU, (B, 1024, H / 32, W / 32), for images as `normalise` takes."""
        return self.backbone.forward_features(self.normalise(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return one logit per finding, (B, F), for images as `normalise` takes."""
        return self.backbone.forward_head(self.features(images))


class FlipAveraged(nn.Module):
    """Average a model's logits over each image and its mirror image.

    Args:
        model: takes (B, C, H, W) images and returns (B, F) logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean of the logits of the images and of the images flipped left to right, (B, F)."""
        return (self.model(images) + self.model(images.flip(3))) / 2


def build_model(findings: Sequence[str], pretrained: bool, weights: Path | None = None) -> ChexNet:
    """Build the model with its first weights.

    Random weights, those of the last layer included, are drawn from torch's global generator: seed it first.

    Args:
        findings: one logit each, in this order.
        pretrained: start from ImageNet weights; without effect where `weights` is given.
        weights: a file that a run wrote (best.safetensors).

    Raises:
        UserError: if the ImageNet weights can be neither fetched nor found in the cache, or `weights` cannot be
            loaded (see load_weights).
    """
    if weights is not None:
        model = ChexNet(len(findings))
        load_weights(model, weights, findings)
        return model
    try:
        return ChexNet(len(findings), pretrained)
    except OSError as error:  # what huggingface_hub raises for every failed or impossible download
        raise UserError(
            f"{IMAGENET_WEIGHTS}: ImageNet weights are neither cached nor to be fetched ({type(error).__name__}); "
            "go online, give --weights FILE, or start from random ones with --no-pretrained"
        ) from error
