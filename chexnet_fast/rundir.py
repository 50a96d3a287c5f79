"""The folder of a training run: what lies where, what the run was, and where it stands."""

import dataclasses
import io
import json
import math
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from chexnet_fast.environment import describe_environment
from chexnet_fast.trainlog import LOG_COLUMNS
from shards.errors import UserError
from shards.files import remove_left_overs, whole_file
from shards.manifest import Manifest
from shards.policy import LabelPolicy, apply_policy


@dataclass(frozen=True)
class RunDir:
    """The files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """The complete config, the data, the command, versions and machine."""
        return self.path / "config.json"

    @property
    def train_patients(self) -> Path:
        """The patients of the training fold, one a line, sorted; not there if they are unknown, as in an import."""
        return self.path / "train_patients.txt"

    @property
    def log(self) -> Path:
        """One row an epoch."""
        return self.path / "log_train.csv"

    @property
    def best(self) -> Path:
        """The weights of the epoch with the lowest validation loss."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """The weights after the last whole epoch."""
        return self.path / "last.safetensors"

    @property
    def state(self) -> Path:
        """All that `--resume` goes on from, weights included: one file, so that its parts always belong together."""
        return self.path / "state.pt"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def wandb_id(self) -> Path:
        """The id of this folder's run at Weights & Biases; there if it has one."""
        return self.path / "wandb_id.txt"


def describe_run(config: Mapping[str, Any], findings: Sequence[str], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what config.json holds: the config, the data, the command, and what it runs on.

    Args:
        config: the settings that made the weights.
        findings: what the model predicts, in the order of its logits.
        data: as describe_data returns.
    """
    return {
        "config": {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()},
        "findings": list(findings),
        "data": dict(data),
        "command": sys.argv,
        "environment": describe_environment(),
    }


def describe_data(
    shards: Path, manifest: Manifest, table: pd.DataFrame, policy: LabelPolicy, size: int
) -> dict[str, Any]:
    """Return config.json's `data`.

    Args:
        shards: the shard folder.
        manifest: its manifest.
        table: its study table; each finding's share of positives among the known labels of the training fold is kept
            for the heatmaps, null where none is known.
        policy: what uncertain and blank labels count as.
        size: the side of the model's input, in pixels.
    """
    source = table.loc[table["fold"] == "train", list(manifest.findings)].to_numpy(np.float32)
    labels = pd.DataFrame(apply_policy(source, manifest.findings, policy), columns=list(manifest.findings))
    return {
        "shards": str(shards),
        "dataset": manifest.dataset,
        "table_sha256": manifest.table_sha256,
        "policy": dataclasses.asdict(policy),
        "size": size,
        "prevalence": {
            finding: None if math.isnan(share) else float(share)
            for finding, share in labels.astype(np.float64).mean().items()
        },
    }


def check_run(path: Path, description: dict[str, Any], resume: bool) -> None:
    """Make sure that a run may go into a folder: an empty one, or with `resume` one of the same run.

    The same run means the same config, findings and labels.

    Raises:
        UserError: if the folder holds a run and `resume` is False, or the run there is another one, or its config.json
            cannot be read.
    """
    if not RunDir(path).config.exists():
        return
    if not resume:
        raise UserError(f"{path}: holds a run already; add --resume to go on with it, or give another folder")
    before = read_description(path)
    compared = {
        "findings": (before["findings"], description["findings"]),
        "labels": (before["data"].get("table_sha256"), description["data"]["table_sha256"]),
        **{name: (before["config"].get(name), value) for name, value in description["config"].items()},
    }
    differences = [f"{name} was {old!r}, is now {new!r}" for name, (old, new) in compared.items() if old != new]
    if differences:
        raise UserError(f"{path}: holds a run of another config ({'; '.join(differences)}); give another folder")


def start_run(path: Path, description: dict[str, Any], train_patients: Iterable[str] | None) -> None:
    """Make a run's folder and write its train_patients.txt and config.json.

    A resumed run keeps the first ones, and loses what a kill left half written.

    Args:
        path: the folder.
        description: what config.json is to hold.
        train_patients: the patients of the training fold, possibly several times each; None if they are unknown.

    Raises:
        UserError: if the folder cannot be made or written.
    """
    run = RunDir(path)
    if run.config.exists():
        remove_left_overs(path)
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give another run folder") from error
    if train_patients is not None:
        with whole_file(run.train_patients) as temporary:
            temporary.write_text("".join(f"{patient}\n" for patient in sorted(set(train_patients))), encoding="utf-8")
    with whole_file(run.config) as temporary:
        temporary.write_text(json.dumps(description, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_description(path: Path) -> dict[str, Any]:
    """Read a run's config.json.

    Raises:
        UserError: if it is missing or damaged.
    """
    file = RunDir(path).config
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        _ = description["config"], description["findings"], description["data"]
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; give the folder of a training run") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not a run's config ({error}); train again into another folder") from error
    return description


def read_train_patients(path: Path) -> frozenset[str] | None:
    """Return the patients of a run's training fold, or None if the run does not know them."""
    file = RunDir(path).train_patients
    return frozenset(file.read_text(encoding="utf-8").splitlines()) if file.exists() else None


def write_log(run: RunDir, rows: Sequence[dict[str, float]]) -> None:
    """Write log_train.csv whole; numbers are the shortest text that reads back as the same float64."""
    with whole_file(run.log) as temporary:
        pd.DataFrame(list(rows), columns=list(LOG_COLUMNS)).to_csv(temporary, index=False, lineterminator="\n")


def save_state(run: RunDir, state: dict[str, Any]) -> None:
    """Write state.pt, whole or not at all: tensors, numbers, text, and lists and dicts of them."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with whole_file(run.state) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(run: RunDir) -> dict[str, Any] | None:
    """Read state.pt to the CPU, executing nothing in it; None if the run has not written one yet.

    Raises:
        UserError: if the file cannot be read.
    """
    if not run.state.exists():
        return None
    try:
        return torch.load(run.state, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{run.state}: cannot be read ({error}); train again into another folder") from error
