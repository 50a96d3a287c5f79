"""One shard on disk: samples in a WebDataset tar, and DALI's index beside it.

A sample is three members, `<key>.<gray|png|jpg>`, `<key>.json` and `<key>.row`. The headers are written here, not by
webdataset.TarWriter, which sorts a sample's members by extension (png after json) and tells no offsets.
"""

import hashlib
import json
import re
import struct
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from shards.errors import UserError

MAX_KEY = 79
"""The longest key: with an extension it stays under 100 characters, beyond which DALI's offsets are wrong."""
ROW = struct.Struct("<i")
INDEX_VERSION = "v1.2"
"""The version of DALI's index that readers.webdataset reads."""


@dataclass(frozen=True)
class Member:
    """Where a member's data lie in the tar: extension, offset and size in bytes, and its whole name."""

    extension: str
    offset: int
    size: int
    name: str


def sample_key(image_id: str) -> str:
    """Return an image's key: its id without extension, `/` as `-`.

    An id that is too long or holds anything but ASCII letters, digits, `_`, `-` and `/` (a dot would end the key for
    WebDataset, a space would break DALI's index) is cut and cleaned, and a digest of the id keeps it unique.
    """
    stem = re.sub(r"\.[^./]*$", "", image_id)
    key = stem.replace("/", "-")
    if re.fullmatch(r"[A-Za-z0-9_-]+", key) and len(key) <= MAX_KEY:
        return key
    digest = hashlib.sha256(image_id.encode()).hexdigest()[:16]
    return f"{re.sub('[^A-Za-z0-9_-]', '_', key)[: MAX_KEY - len(digest) - 1]}-{digest}"


def sample_members(extension: str, image: bytes, record: dict[str, Any], row: int) -> dict[str, bytes]:
    """Return a sample's members in order, extension to data.

    The .json holds the record and `crc32`, the CRC-32 of the image, the row and the record together, so that
    `verify` can say which sample is damaged.
    """
    row_bytes = ROW.pack(row)
    checksum = zlib.crc32(_json(record), zlib.crc32(row_bytes, zlib.crc32(image)))
    return {extension: image, "json": _json({**record, "crc32": checksum}), "row": row_bytes}


def member_bytes(name: str, data: bytes) -> bytes:
    """Return a tar member: a ustar header with fixed owner, mode and time, the data, and zeros to a whole block."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    header.mode = 0o444
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


class ShardWriter:
    """Write samples to a tar, one after the other; a context manager.

    After the context ends, `num_bytes` and `sha256` are the tar's, and `index` is the text of its DALI index.
    """

    def __init__(self, path: Path):
        self.num_bytes = 0
        self._path = path
        self._digest = hashlib.sha256()
        self._samples: list[list[Member]] = []

    def __enter__(self) -> "ShardWriter":
        self._file = self._path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                end = self.num_bytes + 2 * tarfile.BLOCKSIZE
                self._write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))

    def write(self, key: str, members: dict[str, bytes]) -> None:
        """Append a sample."""
        sample = []
        for extension, data in members.items():
            name = f"{key}.{extension}"
            sample.append(Member(extension, self.num_bytes + tarfile.BLOCKSIZE, len(data), name))
            self._write(member_bytes(name, data))
        self._samples.append(sample)

    @property
    def num_samples(self) -> int:
        """The samples written so far."""
        return len(self._samples)

    @property
    def sha256(self) -> str:
        """The sha256 of what is written so far, as 64 hexadecimal digits."""
        return self._digest.hexdigest()

    @property
    def index(self) -> str:
        """DALI's index of the samples written so far: a line for all, then one a sample."""
        lines = [f"{INDEX_VERSION} {len(self._samples)}"]
        for sample in self._samples:
            lines.append(" ".join(f"{part.extension} {part.offset} {part.size} {part.name}" for part in sample))
        return "\n".join(lines) + "\n"

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.num_bytes += len(data)


def read_index(path: Path) -> list[list[Member]]:
    """Return the members of each sample of a shard, from its index.

    Raises:
        UserError: if the file cannot be read as an index.
    """
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        if head != f"{INDEX_VERSION} {len(lines)}":
            raise ValueError(f"first line {head!r} before {len(lines)} samples")
        return [_members(line) for line in lines]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable index ({error}); restore it or pack the data set again") from error


def damaged_sample(tar: Path, index: Sequence[Sequence[Member]]) -> str | None:
    """Return the key of the first sample that is not as `ShardWriter.write` wrote it, or None if all are."""
    with tar.open("rb") as file:
        for members in index:
            begin = members[0].offset - tarfile.BLOCKSIZE
            end = members[-1].offset + members[-1].size
            file.seek(begin)
            found = file.read(end + -end % tarfile.BLOCKSIZE - begin)
            if found != _written(members, found, begin):
                return members[0].name.partition(".")[0]
    return None


def _written(members: Sequence[Member], found: bytes, begin: int) -> bytes | None:
    """Return what is written for a sample with the image, record and row that `found` holds; None if it holds none."""
    image, record, row = (found[part.offset - begin :][: part.size] for part in members)
    try:
        values = json.loads(record)
        del values["crc32"]
        written = sample_members(members[0].extension, image, values, *ROW.unpack(row))
    except (ValueError, KeyError, TypeError, struct.error):
        return None
    return b"".join(member_bytes(part.name, written[part.extension]) for part in members)


def _members(line: str) -> list[Member]:
    fields = iter(line.split(" "))
    groups = zip(fields, fields, fields, fields, strict=True)
    return [Member(extension, int(offset), int(size), name) for extension, offset, size, name in groups]


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()
