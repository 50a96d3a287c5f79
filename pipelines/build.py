"""Build a loader by name."""

import os
from pathlib import Path

import torch

from pipelines.batch import Loader
from pipelines.order import EpochOrder
from pipelines.spec import InputSpec
from shards.errors import UserError
from shards.fold import Fold, open_fold
from shards.manifest import read_manifest
from shards.policy import LabelPolicy

LOADERS = ("dali", "resident", "pil", "pil-shards")


def build_loader(
    kind: str,
    shards: Path,
    fold: str,
    spec: InputSpec,
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = False,
    device: str | torch.device = "cpu",
    rank: int = 0,
    num_ranks: int = 1,
    num_threads: int | None = None,
    policy: LabelPolicy | None = None,
) -> Loader:
    """Build the loader of a packed fold.

    All kinds yield the same images in the same batches for the same (seed, epoch).

    Args:
        kind: "dali" reads the shards; "resident" reads them once into the device's memory; "pil" reads the original
            files that were packed, as reproduce-chexnet does; "pil-shards" does the same from the shards.
        shards: the shard folder.
        fold: "train", "val" or "test".
        spec: what is done to an image.
        batch_size: images in a full batch of one rank.
        seed: fixes order and draws.
        shuffle: permute each epoch; False keeps table order.
        device: where batches are wanted; "pil" and "pil-shards" always yield them on the CPU.
        rank: this process's rank, 0..num_ranks-1.
        num_ranks: processes that share the epoch.
        num_threads: decoding threads (dali) or worker processes (pil, pil-shards); None takes this process's cores.
        policy: what uncertain and blank labels count as; None for the data set's own policy.

    Raises:
        UserError: if the kind is unknown, the batch size is below 1, DALI is not installed, a shard is missing or
            damaged, an original file is not where it was when it was packed, or a pil loader is to augment.
    """
    if kind not in LOADERS:
        raise UserError(f"--loader {kind}: choose one of {', '.join(LOADERS)}")
    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size}: give at least 1")
    opened = open_fold(shards, read_manifest(shards), fold, policy)
    order = EpochOrder(len(opened), batch_size, seed, shuffle, rank, num_ranks)
    num_threads = len(os.sched_getaffinity(0)) if num_threads is None else num_threads
    if kind.startswith("pil"):
        if spec.augment != "none":
            raise UserError(f"--augment {spec.augment}: the {kind} loader flips only; choose --loader dali")
        from pipelines.pil import PilLoader, open_originals

        open_image = open_originals(original_files(opened)) if kind == "pil" else opened.image
        return PilLoader(open_image, opened.labels, opened.rows, spec, order, num_threads)
    if kind == "resident":
        from pipelines.resident import ResidentLoader

        return ResidentLoader(opened, spec, order, torch.device(device), num_threads)
    from pipelines.dali import DaliLoader

    return DaliLoader(opened, spec, order, torch.device(device), num_threads)


def original_files(fold: Fold) -> list[Path]:
    """Return the files that a fold was packed from, in table order.

    Raises:
        UserError: if one is missing.
    """
    files = [Path(path) for path in fold.table["path"]]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"{missing[0]}: the original of a packed image is missing ({len(missing)} in all); "
            "restore the originals, or choose --loader dali"
        )
    return files
