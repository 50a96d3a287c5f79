"""Check a shard folder: every byte against the manifest, every sample against the table."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from tqdm import tqdm

from shards.codec import BadImageError, decode_image
from shards.errors import UserError
from shards.manifest import Manifest, Shard, read_manifest, sha256_of
from shards.rejects import REJECTS
from shards.shard_file import ROW, Member, damaged_sample, read_index
from shards.study import fold_counts
from shards.table import REJECTED, read_csv, read_table
from shards.workers import count, run_tasks

MEND = "restore it or pack the data set again"


@dataclass(frozen=True)
class Verified:
    """What was found whole: shards, images and bytes of the tars."""

    num_shards: int
    num_images: int
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.num_shards} shards, {self.num_images:,} images, {self.num_bytes:,} bytes: all whole"


@dataclass(frozen=True)
class ShardCheck:
    """A shard to check; `size` is its images' side in pixels, or None where they keep their own."""

    folder: Path
    shard: Shard
    codec: str
    size: int | None
    decode: bool


def verify(folder: Path, num_workers: int | None = None, decode: bool = False, progress: bool = True) -> Verified:
    """Compare a shard folder with its manifest.

    Finds any changed byte in manifest.json, a table, a tar or an index; a missing or extra shard; samples that
    are not exactly the table's rows of the shard's fold. Tars are read once, at the speed of the disk or of sha256.

    Args:
        folder: the shard folder.
        num_workers: processes; None for one a core.
        decode: decode every image too.
        progress: show a progress bar.

    Raises:
        UserError: at the first damage, with the file, and for a tar the first damaged sample.
    """
    manifest = read_manifest(folder)
    _check_files(folder, manifest)
    table = _checked_table(folder, manifest)
    checks = [ShardCheck(folder, shard, manifest.codec, manifest.size, decode) for shard in manifest.shards]
    rows_of: dict[str, list[np.ndarray]] = {fold: [] for fold in manifest.counts}
    num_bytes = sum(shard.num_bytes for shard in manifest.shards)
    bar = tqdm(total=num_bytes, unit="B", unit_scale=True, desc="verify", disable=not progress)
    with bar, closing(run_tasks(check_shard, checks, num_workers, bar)) as results:
        for shard, rows in results:
            rows_of[shard.fold].append(rows)
    for fold, parts in rows_of.items():
        rows = np.sort(np.concatenate([np.empty(0, np.int32), *parts]))
        if not np.array_equal(rows, table["row"][table["fold"] == fold]):
            raise UserError(f"{folder}: the {fold} shards do not hold the table's {fold} rows, each once; {MEND}")
    return Verified(len(manifest.shards), sum(manifest.counts.values()), num_bytes)


def check_shard(check: ShardCheck) -> tuple[Shard, np.ndarray]:
    """Check one shard's bytes, and its images if asked; return it and its samples' rows, (N,) int32, in tar order.

    Raises:
        UserError: if anything differs from the manifest.
    """
    tar, index = check.folder / check.shard.file, check.folder / check.shard.index_file
    if sha256_of(index) != check.shard.index_sha256:
        raise UserError(f"{index}: damaged, not what was packed; {MEND}")
    samples = read_index(index)
    if sha256_of(tar) != check.shard.sha256:
        key = damaged_sample(tar, samples)
        where = f"sample {key} is damaged" if key else "damaged after the last sample"
        raise UserError(f"{tar}: {where} ({tar.stat().st_size:,} of {check.shard.num_bytes:,} bytes); {MEND}")
    if len(samples) != check.shard.num_images:
        raise UserError(f"{tar}: {len(samples)} samples, the manifest says {check.shard.num_images}; {MEND}")
    rows: list[int] = []
    with tar.open("rb") as file:
        for image, _, row in samples:
            if check.decode:
                _check_image(check, image, _read(file, image))
            rows.append(*ROW.unpack(_read(file, row)))
    count(check.shard.num_bytes)
    return check.shard, np.array(rows, np.int32)


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Raise UserError if a file that the manifest lists is missing, or a shard lies there that it does not list."""
    shards = {name for shard in manifest.shards for name in (shard.file, shard.index_file)}
    rejects = {REJECTS} if manifest.num_rejected else set()
    found = {path.name for path in folder.iterdir()}
    old_tables = {table.file for table in manifest.old_tables}
    for name in sorted({*shards, manifest.table, *old_tables, *rejects} - found):
        raise UserError(f"{folder / name}: missing, though manifest.json lists it; {MEND}")
    for name in sorted(found - shards):
        if name.endswith((".tar", ".idx")):
            raise UserError(f"{folder / name}: a shard that manifest.json does not list; remove it")


def _checked_table(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """Read the table; raise UserError if it, an old table, the counts or the list of rejects are not the manifest's."""
    path = folder / manifest.table
    tables = {manifest.table: manifest.table_sha256, **{table.file: table.sha256 for table in manifest.old_tables}}
    for name, digest in tables.items():
        if sha256_of(folder / name) != digest:
            raise UserError(f"{folder / name}: damaged or edited, not what was packed; {MEND}")
    table = read_table(path, manifest.findings)
    if fold_counts(table) != manifest.counts:
        raise UserError(f"{path}: holds {fold_counts(table)} images, the manifest says {manifest.counts}; {MEND}")
    rejected = list(table["image_id"][table["fold"] == REJECTED])
    listed = list(read_csv(folder / REJECTS)["image_id"]) if manifest.num_rejected else []
    if rejected != listed or len(rejected) != manifest.num_rejected:
        raise UserError(f"{folder / REJECTS}: does not list the table's {len(rejected)} rejected images; {MEND}")
    return table


def _check_image(check: ShardCheck, member: Member, data: bytes) -> None:
    """Raise UserError unless the data decode to an image of the shard's size."""
    size = check.size
    try:
        if check.codec == "raw":
            whole = size is not None and len(data) == size * size
        else:
            whole = decode_image(data).size == (size, size) or size is None
    except BadImageError as error:
        raise UserError(f"{check.folder / check.shard.file}: sample {member.name}: {error}; {MEND}") from error
    if not whole:
        raise UserError(f"{check.folder / check.shard.file}: sample {member.name} is not {size} x {size}; {MEND}")


def _read(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)
