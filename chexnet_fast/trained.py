"""A trained run, loaded to predict with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from chexnet_fast.model import ChexNet, build_model
from chexnet_fast.rundir import RunDir, read_description


@dataclass(frozen=True)
class TrainedRun:
    """A run's best model in evaluation mode, and what it was trained on.

    `size` is the side of its input in pixels, `prevalence` each finding's share of positives among the known labels of
    its training fold, `description` the run's config.json.
    """

    model: ChexNet
    findings: tuple[str, ...]
    size: int
    prevalence: dict[str, float]
    description: dict[str, Any]
    device: torch.device


def load_run(run: Path, device: torch.device) -> TrainedRun:
    """Load a run's best weights to a device.

    Raises:
        UserError: if the folder holds no run, or its weights are missing, damaged or for other findings.
    """
    description = read_description(run)
    findings = tuple(description["findings"])
    model = build_model(findings, pretrained=False, weights=RunDir(run).best)
    return TrainedRun(
        model=model.to(device).to(memory_format=torch.channels_last).eval(),
        findings=findings,
        size=description["data"]["size"],
        prevalence=description["data"]["prevalence"],
        description=description,
        device=device,
    )
