"""A model's weights on disk: safetensors that know their findings."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from shards.errors import UserError
from shards.files import whole_file

FORMAT = 1
METADATA = "chexnet-fast"
"""The one metadata entry: safetensors writes several in random order, and equal weights are to be equal bytes."""


def save_weights(model: nn.Module, path: Path, findings: Sequence[str]) -> None:
    """Write a model's parameters and buffers, with the findings its logits stand for, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = json.dumps({"format": FORMAT, "findings": list(findings)})
    with whole_file(path) as temporary:
        temporary.write_bytes(save(tensors, {METADATA: metadata}))


def read_findings(path: Path) -> tuple[str, ...]:
    """Return the findings that a weights file predicts, in the order of its logits.

    Raises:
        UserError: if the file cannot be read, or was not written by this version's `save_weights`.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = (file.metadata() or {}).get(METADATA)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not readable as weights ({error}); give a run's best.safetensors") from error
    if metadata is None:
        raise UserError(f"{path}: weights without findings, not of this project; give a run's best.safetensors")
    values = json.loads(metadata)
    if values["format"] != FORMAT:
        raise UserError(f"{path}: weights of format {values['format']!r}, this version reads {FORMAT}; train again")
    return tuple(values["findings"])


def load_weights(model: nn.Module, path: Path, findings: Sequence[str]) -> None:
    """Load weights into a model; every tensor of the file and of the model is accounted for.

    Raises:
        UserError: if the file cannot be read, stands for other findings, or lacks a tensor of the model, holds one
            that the model has not, or one of another shape.
    """
    own_findings = read_findings(path)
    if own_findings != tuple(findings):
        raise UserError(
            f"{path}: predicts {', '.join(own_findings)}, not {', '.join(findings)}; "
            "give weights or shards with the same findings in the same order"
        )
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    load_tensors(model, tensors, path)


def load_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor], source: Path) -> None:
    """Load tensors by name into a model, all or none.

    Raises:
        UserError: if a tensor of the model is missing, or one is left over or of another shape; names `source` and
            each of them.
    """
    state = model.state_dict()
    wrong = [
        *(f"{name} is missing" for name in state if name not in tensors),
        *(f"{name} is unknown" for name in tensors if name not in state),
        *(
            f"{name} is {tuple(tensors[name].shape)}, not {tuple(state[name].shape)}"
            for name in state
            if name in tensors and tensors[name].shape != state[name].shape
        ),
    ]
    if wrong:
        raise UserError(f"{source}: not this model's weights: {'; '.join(wrong)}; give those of a DenseNet-121")
    model.load_state_dict(tensors)
