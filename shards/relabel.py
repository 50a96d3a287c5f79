"""Give packed images new labels: a new table beside the old one, and no image is touched."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from shards.datasets.registry import DATASETS
from shards.errors import UserError
from shards.fold import read_packed_table
from shards.manifest import Manifest, OldTable, read_manifest, sha256_of, write_manifest
from shards.study import labels_source
from shards.table import KEY_COLUMNS, REJECTED, make_study_table, write_table


@dataclass(frozen=True)
class Relabelled:
    """What new labels changed.

    `changed` names the images with a changed label, in table order; `changes` is as `count_changes` returns; `kept`
    names the metadata columns that the new label table lacks, so that the old values stay.
    """

    table: str
    num_images: int
    changed: tuple[str, ...]
    changes: pd.DataFrame
    kept: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.table}: {len(self.changed):,} of {self.num_images:,} images changed"]
        for finding, added, removed, other in self.changes.itertuples(index=False):
            if added or removed or other:
                lines.append(f"  {finding} +{added:,} -{removed:,}" + (f" other {other:,}" if other else ""))
        if self.kept:
            lines.append(f"  not in the new labels, kept as they were: {', '.join(self.kept)}")
        return "\n".join(lines)


def relabel(folder: Path, labels: Path) -> Relabelled:
    """Write a new current table into a shard folder, with the labels and metadata of another label table.

    Images, rows, patients and folds stay; what the samples' .json files say is of the time of packing. The old
    tables stay too, and the manifest lists them. Killed at any moment, the folder has either its old or its new table.

    Args:
        folder: the shard folder.
        labels: a label table of the same data set, or the folder of CheXpert's; it may hold more images.

    Raises:
        UserError: if the shards or the labels cannot be read, or the labels lack a packed image or give one to another
            patient.
    """
    manifest = read_manifest(folder)
    findings = manifest.findings
    old = read_packed_table(folder, manifest)
    new_labels = DATASETS[manifest.dataset].read_labels(labels)
    _check_cover(old, new_labels, labels)
    table, kept = _relabelled(old, new_labels, findings)
    name = f"table-{len(manifest.old_tables) + 2}.csv"
    write_table(table, folder / name)
    write_manifest(_with_table(manifest, folder, name, labels), folder)
    return Relabelled(
        table=name,
        num_images=len(table),
        changed=tuple(changed_images(old, table, findings)),
        changes=count_changes(old, table, findings),
        kept=kept,
    )


def changed_images(old: pd.DataFrame, new: pd.DataFrame, findings: Sequence[str]) -> pd.Series:
    """Return the ids of the images of which a label differs, in order; two unknown labels are equal.

    Args:
        old: `image_id` and the findings, 1, 0, -1 or NaN.
        new: the same of the same images in the same order.
        findings: the columns to compare.
    """
    return old["image_id"][_differ(old, new, findings).any(axis=1)]


def count_changes(old: pd.DataFrame, new: pd.DataFrame, findings: Sequence[str]) -> pd.DataFrame:
    """Count, per finding, the images that became positive, those that were, and those that differ otherwise.

    Args:
        old: the findings, 1, 0, -1 or NaN.
        new: the same of the same images in the same order.
        findings: the columns to compare.

    Returns:
        `finding`, `added`, `removed` and `other` (between negative, uncertain and unknown): one row a finding.
    """
    was, now = old[list(findings)] == 1, new[list(findings)] == 1
    added, removed = (~was & now).sum(), (was & ~now).sum()
    other = _differ(old, new, findings).sum() - added - removed
    return pd.DataFrame({"added": added, "removed": removed, "other": other}).rename_axis("finding").reset_index()


def _differ(old: pd.DataFrame, new: pd.DataFrame, findings: Sequence[str]) -> pd.DataFrame:
    """Return (N, F) bool: which labels differ."""
    before, after = old[list(findings)], new[list(findings)]
    return (before != after) & ~(before.isna() & after.isna())


def _check_cover(old: pd.DataFrame, new_labels: pd.DataFrame, path: Path) -> None:
    """Raise UserError unless each packed image has new labels, and of the same patient."""
    packed = old[old["fold"] != REJECTED]
    patients = packed["image_id"].map(new_labels.set_index("image_id")["patient_id"])
    missing = packed["image_id"][patients.isna()]
    if len(missing):
        raise UserError(
            f"{path}: no labels for {len(missing):,} of {len(packed):,} packed images "
            f"({', '.join(missing[:3])} ...): add their rows"
        )
    other = packed[patients != packed["patient_id"]]
    if len(other):
        raise UserError(
            f"{path}: image {other['image_id'].iloc[0]} is of patient {patients[other.index[0]]}, in the shards of "
            f"{other['patient_id'].iloc[0]} ({len(other):,} such images): folds follow patients, so pack again"
        )


def _relabelled(
    old: pd.DataFrame, new_labels: pd.DataFrame, findings: Sequence[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the old table with the new labels and metadata, and the metadata columns that stay as they were."""
    matched = new_labels.set_index("image_id").reindex(old["image_id"]).reset_index()
    columns = [name for name in matched.columns if name not in KEY_COLUMNS]
    kept = tuple(name for name in old.columns if name not in (*KEY_COLUMNS, *findings, *columns))
    return make_study_table(old.drop(columns="row").assign(**matched[columns]), findings), kept


def _with_table(manifest: Manifest, folder: Path, name: str, labels: Path) -> Manifest:
    """Return the manifest with another current table, and the one so far among the old ones."""
    return dataclasses.replace(
        manifest,
        table=name,
        table_sha256=sha256_of(folder / name),
        labels=labels_source(labels),
        old_tables=(*manifest.old_tables, OldTable(manifest.table, manifest.table_sha256, manifest.labels)),
    )
