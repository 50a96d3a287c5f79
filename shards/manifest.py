"""manifest.json: what a shard folder holds, and how it was made."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.errors import UserError

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
class Manifest:
    """What was packed. The same input and settings give the same manifest, byte for byte.

    `size` is the side of the packed square images in pixels, or None where images keep their original size.
    `labels` and `split` name their file and its sha256; `images` holds the source paths and the counts of images
    found and labelled; `counts` is images per fold; `table` is the current table's file name.
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
    shards: tuple[Shard, ...]
    format: int = field(default=FORMAT)

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
    """Write `folder/manifest.json`, whole or not at all."""
    text = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False) + "\n"
    temporary = folder / "manifest.json.tmp"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / "manifest.json")


def read_manifest(folder: Path) -> Manifest:
    """Read `folder/manifest.json`.

    Raises:
        UserError: if the folder or the file is missing, is no manifest, or is of another format version.
    """
    path = folder / "manifest.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the folder that `chexnet-fast pack` wrote") from error
    except ValueError as error:
        raise UserError(f"{path}: not a manifest ({error}); pack the data set again") from error
    version = values.get("format") if isinstance(values, dict) else None
    if version != FORMAT:
        raise UserError(f"{path}: shard format {version!r}, this version reads {FORMAT}; pack the data set again")
    try:
        shards = tuple(Shard(**shard) for shard in values.pop("shards"))
        return Manifest(**{**values, "findings": tuple(values["findings"]), "shards": shards})
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a manifest ({error}); pack the data set again") from error


def sha256_of(path: Path) -> str:
    """Return a file's sha256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
