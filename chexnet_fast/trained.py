"""A trained run, loaded to predict with."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from chexnet_fast.model import ChexNet, FlipAveraged, build_model
from chexnet_fast.rundir import RunDir, read_description, read_train_patients
from shards.policy import LabelPolicy


@dataclass(frozen=True)
class TrainedRun:
    """A run's best model in evaluation mode, and what it was trained on.

    `size` is the side of its input in pixels, `policy` what uncertain and blank labels counted as, `prevalence` each
    finding's share of positives among the known labels of its training fold (NaN if none is known), `train_patients`
    that fold's patients (None if the run does not know them), `flip_at_test` whether logits are to be averaged with
    those of the mirrored image, `description` the run's config.json.
    """

    model: ChexNet
    findings: tuple[str, ...]
    size: int
    policy: LabelPolicy
    prevalence: dict[str, float]
    train_patients: frozenset[str] | None
    flip_at_test: bool
    description: dict[str, Any]
    device: torch.device

    def scorer(self) -> nn.Module:
        """Return what the run is scored with: its model, averaged over mirror images if its recipe says so."""
        return FlipAveraged(self.model) if self.flip_at_test else self.model


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
        policy=LabelPolicy(**description["data"]["policy"]),
        prevalence={
            finding: math.nan if share is None else share
            for finding, share in description["data"]["prevalence"].items()
        },
        train_patients=read_train_patients(run),
        flip_at_test=description["config"]["flip_at_test"],
        description=description,
        device=device,
    )
