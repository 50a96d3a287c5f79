"""Import a checkpoint of reproduce-chexnet's kind, a pickled torchvision DenseNet-121, and run nothing in it."""

import dataclasses
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from chexnet_fast import inert_pickle
from chexnet_fast.inert_pickle import Inert
from chexnet_fast.model import ChexNet
from chexnet_fast.reference import REPRODUCE_CHEXNET_IMAGES, REPRODUCE_CHEXNET_POSITIVES
from chexnet_fast.rundir import RunDir, describe_data, describe_run, start_run
from chexnet_fast.weights import load_tensors, save_weights
from shards.datasets.registry import DATASETS
from shards.errors import UserError
from shards.findings import NIH_FINDINGS
from shards.fold import read_packed_table
from shards.manifest import read_manifest, sha256_of

SIZE = 224
"""The side of reproduce-chexnet's input in pixels."""
RENAMINGS = (
    (r"^module\.", ""),  # DataParallel
    (r"\.(norm|conv)\.([12])\.", r".\1\2."),  # torchvision before 0.2.1
    (r"^classifier\.0\.", "classifier."),  # the layer before reproduce-chexnet's sigmoid
)
"""What turns a checkpoint's names into torchvision's of today, which are timm's too."""


def import_weights(file: Path, run: Path, shards: Path | None) -> None:
    """Turn a checkpoint into a run folder that can be evaluated, drawn and started from.

    Args:
        file: a file that torch.save wrote: a DenseNet-121 or its state dict, alone or as a dict's `model` or
            `state_dict`, with a sigmoid after the classifier or without.
        run: the run folder to make.
        shards: shards whose training fold the checkpoint was trained on: findings, prevalences and patients are
            theirs. None for reproduce-chexnet's own, NIH's shared random split; the patients are then unknown.

    Raises:
        UserError: if the file cannot be read, holds no DenseNet-121 of as many findings, or the folder holds a run.
    """
    if RunDir(run).config.exists():
        raise UserError(f"{run}: holds a run already; give another folder")
    findings: tuple[str, ...] = NIH_FINDINGS
    data, patients = shared_split_data(), None
    if shards is not None:
        manifest = read_manifest(shards)
        table = read_packed_table(shards, manifest)
        findings = manifest.findings
        data = describe_data(shards, manifest, table, DATASETS[manifest.dataset].policy, SIZE)
        patients = table.loc[table["fold"] == "train", "patient_id"]
    model = ChexNet(len(findings))
    load_tensors(model, read_tensors(file), file)
    config = {"imported": str(file), "sha256": sha256_of(file), "flip_at_test": False}
    start_run(run, describe_run(config, findings, data), patients)
    save_weights(model, RunDir(run).best, findings)


def shared_split_data() -> dict[str, Any]:
    """Return config.json's `data` for what reproduce-chexnet was trained on."""
    prevalence = {name: count / REPRODUCE_CHEXNET_IMAGES for name, count in REPRODUCE_CHEXNET_POSITIVES.items()}
    return {
        "shards": None,
        "dataset": "nih",
        "table_sha256": None,
        "policy": dataclasses.asdict(DATASETS["nih"].policy),
        "size": SIZE,
        "prevalence": prevalence,
    }


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read a checkpoint's weights under ChexNet's names, executing nothing in it.

    Raises:
        UserError: if the file cannot be read, or holds no model.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the source code of old models is neither found nor wanted
            content = torch.load(file, "cpu", pickle_module=inert_pickle, weights_only=False)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}; give a file that torch.save wrote") from error
    except Exception as error:  # damaged pickles raise nearly anything
        reason = " ".join(str(error).split())
        raise UserError(
            f"{file}: cannot be read as a checkpoint ({reason}); give a file that torch.save wrote"
        ) from error
    if isinstance(content, Mapping):
        content = content.get("model", content.get("state_dict", content))
    named = dict(content if isinstance(content, Mapping) else named_values(content))
    strays = [str(name) for name, value in named.items() if not isinstance(value, torch.Tensor)]
    if strays or not named:
        reason = f"{', '.join(strays[:3])} is no tensor" if strays else "nothing of the kind in it"
        raise UserError(f"{file}: holds no model ({reason}); give a checkpoint of a DenseNet-121 or its state dict")
    tensors = {chexnet_name(name): tensor.detach() for name, tensor in named.items()}
    if not any(name.endswith("num_batches_tracked") for name in tensors):
        # Batch norm before torch 0.4.1 did not count its batches; the count bears on no output.
        counts = [name for name in tensors if name.endswith("running_mean")]
        tensors |= {name.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for name in counts}
    return tensors


def named_values(module: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield an unpickled module's parameters and buffers by name, as its state_dict would have."""
    if not isinstance(module, Inert) or not isinstance(module.state, dict):
        return
    for kind in ("_parameters", "_buffers"):
        for name, value in module.state.get(kind, {}).items():
            if isinstance(value, Inert) and value.args:  # how torch before 0.4 pickled a parameter
                yield prefix + name, value.args[0]
            elif value is not None:  # a convolution's bias that is switched off
                yield prefix + name, value
    for name, child in module.state.get("_modules", {}).items():
        yield from named_values(child, f"{prefix}{name}.")


def chexnet_name(name: str) -> str:
    """Return ChexNet's name of a checkpoint's tensor."""
    for pattern, replacement in RENAMINGS:
        name = re.sub(pattern, replacement, name)
    return f"backbone.{name}"
