"""manifest.json: what a shard folder holds, and how it was made."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.errors import UserError
from shards.files import whole_file

FORMAT = 1
CODECS = ("raw", "png", "jpeg")
EXTENSIONS = {"raw": "gray", "png": "png", "jpeg": "jpg"}
"""The extension of a sample's image member, per codec."""


@dataclass(frozen=True)
class Shard:
    """One tar of samples and its DALI index, both in the shard folder.

    `file` is the tar's name; the index has the same stem and the suffix `.idx`. Sizes are in bytes.
    """

    file: str
    fold: str
    num_images: int
    num_bytes: int
    sha256: str
    index_sha256: str

    @property
    def index_file(self) -> str:
        """The name of the shard's DALI index."""
        return Path(self.file).with_suffix(".idx").name


@dataclass(frozen=True)
class OldTable:
    """A table that was current before the shards were relabelled: its file, its sha256, and its `Manifest.labels`."""

    file: str
    sha256: str
    labels: dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What was packed. The same input and settings give the same manifest, byte for byte.

    `size` is the side of the packed square images in pixels, or None where images keep their original size.
    `labels` and `split` name their files and their sha256; `images` holds the source folders and the counts of images
    found and labelled; `counts` is images per fold; `table` is the current table's file name. `seed` fixed the order of
    the training images and what the split drew. `plan_sha256` stands for all that was asked for, see shards/pack.py.
    `old_tables` lists the tables before the current one, oldest first, see shards/relabel.py.
    """

    dataset: str
    findings: tuple[str, ...]
    codec: str
    quality: int | None
    size: int | None
    table: str
    table_sha256: str
    labels: dict[str, Any]
    split: dict[str, Any]
    images: dict[str, Any]
    counts: dict[str, int]
    num_rejected: int
    seed: int
    plan_sha256: str
    shards: tuple[Shard, ...]
    old_tables: tuple[OldTable, ...] = ()
    format: int = field(default=FORMAT)

    @property
    def raw_side(self) -> int:
        """The side of a raw image in pixels: packing gives all of them one size."""
        if self.size is None:
            raise ValueError("raw images have no size of their own")
        return self.size

    def fold_shards(self, fold: str) -> list[Shard]:
        """Return one fold's shards, in order.

        Raises:
            UserError: if the fold holds no image.
        """
        shards = [shard for shard in self.shards if shard.fold == fold]
        if not shards:
            raise UserError(f"fold {fold!r} of the shards is empty (counts: {self.counts}): choose another fold")
        return shards


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `folder/manifest.json`, whole or not at all; its last field is the sha256 of the others."""
    with whole_file(folder / "manifest.json") as temporary:
        temporary.write_text(_to_json(dataclasses.asdict(manifest)), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read `folder/manifest.json`.

    Raises:
        UserError: if the folder or the file is missing, is no manifest, is of another format version, or differs in a
            single byte from what was written.
    """
    path = folder / "manifest.json"
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the folder that `chexnet-fast pack` wrote") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a manifest ({error}); pack the data set again") from error
    version = values.get("format") if isinstance(values, dict) else None
    if version != FORMAT:
        raise UserError(f"{path}: shard format {version!r}, this version reads {FORMAT}; pack the data set again")
    values.pop("sha256", None)
    if text != _to_json(values):
        raise UserError(f"{path}: damaged or edited, its sha256 is another; restore it or pack the data set again")
    try:
        shards = tuple(Shard(**shard) for shard in values.pop("shards"))
        old_tables = tuple(OldTable(**table) for table in values.pop("old_tables"))
        findings = tuple(values.pop("findings"))
        return Manifest(findings=findings, shards=shards, old_tables=old_tables, **values)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a manifest ({error}); pack the data set again") from error


def _to_json(values: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    return json.dumps({**values, "sha256": digest}, indent=1, ensure_ascii=False) + "\n"


def sha256_of(path: Path) -> str:
    """Return a file's sha256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
