"""Archives of images, each read once as a stream into a spool: its images, packed, one after the other.

Training shards are in a random order over all archives, which streams cannot give; a spool can, and at 224 pixels is
an eighth of its archive. The originals are never written to the disk, and the spools go when the shards are written.
"""

import dataclasses
import gzip
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from shards.codec import BadImageError
from shards.encoding import MAX_BYTES, Encoding, check_file_size, packed_bytes
from shards.errors import BadInputError, UserError
from shards.files import whole_file
from shards.rejects import check_rejects
from shards.sources import ImageId, is_image
from shards.workers import count

BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Spooled:
    """An image of an archive: its id, its path (the archive's and the member's name), and where its packed bytes lie.

    `reason` says why it was not packed, if it was not.
    """

    image_id: str
    path: str
    file: str
    offset: int
    size: int
    reason: str | None

    def read(self, folder: Path) -> bytes:
        """Return the packed bytes from the spool in the folder.

        Raises:
            BadImageError: with the reason if it was not packed.
        """
        if self.reason is not None:
            raise BadImageError(self.reason)
        with (folder / self.file).open("rb") as spool:
            spool.seek(self.offset)
            return spool.read(self.size)


@dataclass(frozen=True)
class SpoolTask:
    """An archive to read into the spool `name` in the folder `out`; only images with an id in `wanted` are packed."""

    out: Path
    name: str
    archive: str
    wanted: frozenset[str]
    image_id: ImageId
    encoding: Encoding
    max_rejects: int


def spool_archive(task: SpoolTask) -> None:
    """Write an archive's spool, then the list of its images, each whole or not at all.

    Raises:
        BadInputError: if more than `max_rejects` of its images are bad, one is not of the size that it must have, or
            two are one image.
        UserError: if the archive cannot be read to its end, or the disk is full.
    """
    identity = _identity(task.archive)
    found: dict[str, Spooled] = {}
    reasons: dict[str, str] = {}
    with whole_file(task.out / task.name) as temporary, temporary.open("wb") as spool:
        for member, data in read_images(task.archive):
            path = f"{task.archive}/{member}"
            image_id = task.image_id(path) or path
            if image_id in found:
                raise BadInputError(f"{path} and {found[image_id].path} are one image: make the archive anew")
            packed = b""
            if image_id in task.wanted:
                try:
                    check_file_size(len(data))
                    (packed,) = packed_bytes([(path, data)], task.encoding)
                except BadImageError as error:
                    reasons[path] = str(error)
                    check_rejects(reasons, task.max_rejects)
                count(1)
            found[image_id] = Spooled(image_id, path, task.name, spool.tell(), len(packed), reasons.get(path))
            spool.write(packed)
    with whole_file(_list_path(task)) as temporary:
        values = {"archive": identity, "images": [dataclasses.astuple(image) for image in found.values()]}
        temporary.write_text(json.dumps(values), encoding="utf-8")


def read_spool(task: SpoolTask) -> list[Spooled] | None:
    """Return a finished spool's images, or None if it is not finished or the archive has changed since."""
    path = _list_path(task)
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    if values["archive"] != _identity(task.archive):
        return None
    return [Spooled(*image) for image in values["images"]]


def _list_path(task: SpoolTask) -> Path:
    return (task.out / task.name).with_suffix(".json")


def _identity(archive: str) -> list[int]:
    """Return what tells an archive from another under its name: its size in bytes, and when it was changed."""
    try:
        status = Path(archive).stat()
    except OSError as error:
        raise UserError(f"{archive}: {error.strerror}; restore it, or give another --images") from error
    return [status.st_size, status.st_mtime_ns]


def read_images(archive: str) -> Iterator[tuple[str, bytes]]:
    """Give each image's member name and its bytes, of one that is too large the first MAX_BYTES + 1.

    Raises:
        UserError: if the archive is cut off or damaged.
    """
    last = "its beginning"
    try:
        with _open(archive) as stream, tarfile.open(fileobj=stream, mode="r|", bufsize=BUFFER_BYTES) as tar:
            for member in tar:
                if is_image(member.name) and not member.isdir():
                    # A link to another member has no bytes in a stream: it is rejected as an empty file.
                    file = tar.extractfile(member) if member.isfile() else None
                    yield member.name, file.read(MAX_BYTES + 1) if file else b""
                    last = member.name
            while stream.read(BUFFER_BYTES):
                continue  # to the end, where gzip's checksum stands
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(f"{archive}: cut off or damaged after {last} ({error}); download it again") from error


@contextmanager
def _open(archive: str) -> Iterator[BinaryIO]:
    if archive.endswith(".tar"):
        with Path(archive).open("rb") as file:
            file.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
            if any(file.read()):
                raise tarfile.ReadError("no end mark")
            file.seek(0)
            yield file
    else:
        with gzip.open(archive) as file:
            yield cast(BinaryIO, file)
