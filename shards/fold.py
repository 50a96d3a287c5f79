"""Random access to the samples of one packed fold, through memory maps of its tars."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from shards.codec import BadImageError, decode_image
from shards.datasets.registry import DATASETS
from shards.errors import UserError
from shards.manifest import EXTENSIONS, Manifest, Shard, sha256_of
from shards.mapped_tar import MappedTar
from shards.policy import LabelPolicy, apply_policy
from shards.table import read_table


@dataclass(frozen=True)
class Fold:
    """The images and labels of one fold, in table order: position i is the fold's i-th row of the study table.

    Args:
        folder: the shard folder.
        manifest: its manifest.
        rows: (N,) int32, ascending: each position's row in the study table.
        labels: (N, F) float32: 1 positive, 0 negative, NaN unknown.
        table: the fold's N rows of the study table, with the labels as their source has them: -1 uncertain, NaN blank.
    """

    folder: Path
    manifest: Manifest
    rows: np.ndarray
    labels: np.ndarray
    table: pd.DataFrame
    _tars: list[MappedTar]
    _tar_of: np.ndarray
    _begin: np.ndarray
    _end: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def image_bytes(self, position: int) -> np.ndarray:
        """Return a packed image's bytes; see `batch_bytes`."""
        (data,) = self.batch_bytes(np.array([position]))
        return data

    def batch_bytes(self, positions: np.ndarray) -> list[np.ndarray]:
        """Return packed images' bytes, (num_bytes,) uint8 each: views of the mapped tars, not copies.

        Read them soon; see `MappedTar`.

        Raises:
            UserError: if one of their tars is not as long as it was packed.
        """
        tars = self._tar_of[positions].tolist()
        for tar in set(tars):
            self._tars[tar].check()
        places = zip(tars, self._begin[positions].tolist(), self._end[positions].tolist(), strict=True)
        return [self._tars[tar].data[begin:end] for tar, begin, end in places]

    def image(self, position: int) -> Image.Image:
        """Decode the packed image: 8 bits, one grey channel.

        Raises:
            UserError: if the packed bytes are damaged, naming shard and image.
        """
        data = self.image_bytes(position)
        if self.manifest.codec == "raw":
            return Image.fromarray(data.reshape(self.manifest.raw_side, self.manifest.raw_side))
        try:
            return decode_image(data.tobytes())
        except BadImageError as error:
            raise UserError(f"{self._name(position)}: {error}; run `chexnet-fast verify` and pack again") from error

    def take(self, positions: np.ndarray) -> "Fold":
        """Return the images at some positions, in that order, as a fold of their own; a position may come twice."""
        return dataclasses.replace(
            self,
            rows=self.rows[positions],
            labels=self.labels[positions],
            table=self.table.iloc[positions],
            _tar_of=self._tar_of[positions],
            _begin=self._begin[positions],
            _end=self._end[positions],
        )

    def _name(self, position: int) -> str:
        """Return a sample as messages name it: its tar and its image id."""
        shard = self.manifest.fold_shards(self.table["fold"].iloc[0])[self._tar_of[position]]
        return f"{self.folder / shard.file}, image {self.table['image_id'].iloc[position]}"


def open_fold(folder: Path, manifest: Manifest, fold: str, policy: LabelPolicy | None = None) -> Fold:
    """Map a fold's tars and look up its labels.

    Args:
        folder: the shard folder.
        manifest: its manifest.
        fold: train, val or test.
        policy: what uncertain and blank labels count as; None for the data set's own policy.

    Raises:
        UserError: if the fold is empty, or a tar, index or the table is missing, of another size or content than the
            manifest says, or the samples are not exactly the fold's rows of the table.
    """
    shards = manifest.fold_shards(fold)
    table = read_packed_table(folder, manifest)
    table = table[table["fold"] == fold]
    extension = EXTENSIONS[manifest.codec]
    tars = [MappedTar(folder / shard.file, shard.num_bytes) for shard in shards]
    members = [_read_index(folder, shard, tar.data, extension) for shard, tar in zip(shards, tars, strict=True)]
    tar_of = np.repeat(np.arange(len(shards)), [len(rows) for rows, _, _ in members])
    rows, begin, end = (np.concatenate(column) for column in zip(*members, strict=True))
    by_row = np.argsort(rows, kind="stable")
    if not np.array_equal(rows[by_row], table["row"]):
        raise UserError(f"{folder}: the {fold} shards do not hold the table's {fold} rows; run `chexnet-fast verify`")
    return Fold(
        folder=folder,
        manifest=manifest,
        rows=rows[by_row],
        labels=apply_policy(
            table[list(manifest.findings)].to_numpy(np.float32),
            manifest.findings,
            policy or DATASETS[manifest.dataset].policy,
        ),
        table=table,
        _tars=tars,
        _tar_of=tar_of[by_row],
        _begin=begin[by_row],
        _end=end[by_row],
    )


def read_packed_table(folder: Path, manifest: Manifest) -> pd.DataFrame:
    """Read the current table of a shard folder.

    Raises:
        UserError: if it is missing or differs in a single byte from what was written.
    """
    path = folder / manifest.table
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; restore it or pack the data set again") from error
    if digest != manifest.table_sha256:
        raise UserError(f"{path}: damaged or edited, not what was packed; restore it or pack the data set again")
    return read_table(path, manifest.findings)


def _read_index(folder: Path, shard: Shard, tar: np.ndarray, extension: str) -> tuple[np.ndarray, ...]:
    """Return rows (int32), and the begin and end of the image bytes (int64), for each sample of a tar."""
    path = folder / shard.index_file
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; restore the file or pack the data set again") from error
    if digest != shard.index_sha256:
        raise UserError(f"{path}: not the index that was packed; restore the file or pack the data set again")
    members = np.array(path.read_text(encoding="utf-8").split()[2:]).reshape(shard.num_images, -1, 4)
    begin = _column(members, extension, 1)
    row_begin = _column(members, "row", 1)
    rows = tar[row_begin[:, None] + np.arange(4)].view("<i4")[:, 0]
    return rows, begin, begin + _column(members, extension, 2)


def _column(members: np.ndarray, extension: str, column: int) -> np.ndarray:
    (component,) = np.flatnonzero(members[0, :, 0] == extension)
    return members[:, component, column].astype(np.int64)
