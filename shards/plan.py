"""Which image goes into which shard, in which order: the same for any number of workers or machines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shards.errors import BadInputError
from shards.findings import FOLDS
from shards.shard_file import sample_key

SHARD_IMAGES = 1024
"""Images in a full shard: 51 MB raw at 224 pixels, about 400 MB of original PNGs. A killed packing loses at most one
shard a worker, some 20 s of work, and ChestX-ray14 has 111 of them to share out."""
MIN_SHARD_IMAGES = 32
FEW_SHARDS = 8
"""A small fold is cut into this many shards, of MIN_SHARD_IMAGES at least, so that every core has work."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An image to pack: its row in the study table, its key in the tar, and what its .json says."""

    row: int
    key: str
    image_id: str
    path: str
    patient_id: str
    findings: tuple[str, ...]


@dataclass(frozen=True)
class ShardPlan:
    """A shard to write: its name without suffix, its fold, and its samples in order."""

    name: str
    fold: str
    samples: tuple[Sample, ...]


def plan_shards(table: pd.DataFrame, findings: Sequence[str], seed: int) -> list[ShardPlan]:
    """Cut the folds into shards; train in a permutation drawn from the seed, val and test in table order.

    Raises:
        BadInputError: if two images have the same key.
    """
    samples = _samples(table, findings)
    rows_of = table.groupby("fold")["row"]
    shards = []
    for fold in FOLDS:
        if fold not in rows_of.groups:
            continue
        rows = rows_of.get_group(fold).to_numpy()
        if fold == "train":
            rows = np.random.Generator(np.random.Philox(seed)).permutation(rows)
        num_images = _images_per_shard(len(rows))
        for index, start in enumerate(range(0, len(rows), num_images)):
            part = tuple(samples[row] for row in rows[start : start + num_images])
            shards.append(ShardPlan(f"{fold}-{index:05d}", fold, part))
    return shards


def _images_per_shard(num_images: int) -> int:
    return min(SHARD_IMAGES, max(MIN_SHARD_IMAGES, -(-num_images // FEW_SHARDS)))


def _samples(table: pd.DataFrame, findings: Sequence[str]) -> list[Sample]:
    keys = table["image_id"].map(sample_key)
    if keys.duplicated().any():
        first, second = table["image_id"][keys == keys[keys.duplicated()].iloc[0]].iloc[:2]
        raise BadInputError(f"images {first} and {second} differ in extension or punctuation only: rename one")
    positives: list[list[str]] = [[] for _ in range(len(table))]
    for row, column in zip(*np.nonzero(table[list(findings)].to_numpy() == 1), strict=True):
        positives[row].append(findings[column])
    columns = (table["row"], keys, table["image_id"], table["path"], table["patient_id"], map(tuple, positives))
    return [Sample(*values) for values in zip(*columns, strict=True)]
