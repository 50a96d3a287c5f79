"""Start a training run: from a config and folders to loaders, a model and the training loop.

One process: `chexnet-fast train build/nih build/run`.
Eight GPUs: `torchrun --nproc-per-node 8 -m chexnet_fast train build/nih build/run`.
"""

import dataclasses
import os
from pathlib import Path

import torch

from chexnet_fast import distributed
from chexnet_fast.amp import amp_dtype, amp_name
from chexnet_fast.config import TrainConfig
from chexnet_fast.curves import import_wandb
from chexnet_fast.losses import balanced_weights
from chexnet_fast.model import SMALLEST_INPUT, build_model
from chexnet_fast.replay import check_compiler
from chexnet_fast.rundir import RunDir, check_run, describe_data, describe_run, start_run
from chexnet_fast.trainer import train
from pipelines.build import build_loader
from pipelines.spec import InputSpec
from shards.datasets.registry import DATASETS
from shards.errors import UserError
from shards.fold import read_packed_table
from shards.manifest import read_manifest
from shards.policy import parse_policy


def run_training(
    config: TrainConfig,
    shards: Path,
    run: Path,
    resume: bool = False,
    weights: Path | None = None,
    pretrained: bool = True,
) -> None:
    """Train on a shard folder into a run folder: what `chexnet-fast train` does.

    Under torchrun every rank calls this with the same arguments, and the first rank writes; the run folder
    lies where every node sees it.

    Args:
        config: the complete config.
        shards: a folder that `chexnet-fast pack` wrote, with train and val images.
        run: the folder to make, or to go on in.
        resume: go on where the run stopped, or begin if it has not begun.
        weights: the weights file to start from.
        pretrained: start from ImageNet weights if no file is given, otherwise from random ones.

    Raises:
        UserError: if the config does not fit the machine or the shards, the run folder holds another run, the first
            weights cannot be had, or training meets a loss that is not finite.
        SystemExit: with status 128 + signal after SIGTERM or SIGINT, when the state is safe.
    """
    manifest = read_manifest(shards)
    table = read_packed_table(shards, manifest)
    policy = parse_policy(config.uncertain, config.blank or DATASETS[manifest.dataset].policy.blank, manifest.findings)
    size = config.size or manifest.size
    if size is None:
        raise UserError(f"{shards}: images have their original sizes; give --size")
    if size < SMALLEST_INPUT:
        raise UserError(f"--size {size}: DenseNet-121 trains on {SMALLEST_INPUT} pixels or more; pack larger images")
    if config.steps == "compiled" and config.device == "cuda":
        check_compiler()
    data = describe_data(shards, manifest, table, policy, size)
    class_weights = balanced_weights(data["prevalence"]) if config.class_weights == "balanced" else None
    with distributed.process_group(config.device) as device:
        config = dataclasses.replace(config, size=size, amp=amp_name(amp_dtype(config.amp, device)))
        num_ranks = distributed.num_ranks()
        if config.batch_size % num_ranks:
            raise UserError(f"--batch-size {config.batch_size} cannot be shared by {num_ranks} ranks; take a multiple")
        description = describe_run(dataclasses.asdict(config), manifest.findings, data)
        if distributed.rank() == 0:
            check_run(run, description, resume)
            if config.wandb is not None:
                import_wandb()  # a missing package shows before there is a run folder
        begun = RunDir(run).state.exists()
        torch.manual_seed(config.seed)
        torch.backends.cudnn.benchmark = True
        model = build_model(manifest.findings, pretrained and not begun, None if begun else weights)
        specs = {"train": InputSpec(size, flip=config.flip, augment=config.augment), "val": InputSpec(size)}
        train_loader, val_loader = (
            build_loader(
                config.loader,
                shards,
                fold,
                spec,
                config.batch_size // num_ranks,
                seed=config.seed,
                shuffle=fold == "train",
                device=device,
                rank=distributed.rank(),
                num_ranks=num_ranks,
                num_threads=config.num_threads or num_cores_per_rank(),
                policy=policy,
            )
            for fold, spec in specs.items()
        )
        val_table = table[table["fold"] == "val"]
        if distributed.rank() == 0:
            start_run(run, description, table.loc[table["fold"] == "train", "patient_id"])
        train(config, model, train_loader, val_loader, val_table, manifest.findings, RunDir(run), device, class_weights)


def num_cores_per_rank() -> int:
    """Return this rank's share of the machine's cores."""
    return max(1, len(os.sched_getaffinity(0)) // distributed.num_local_ranks())
