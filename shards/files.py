"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import UserError

TEMPORARY = "tmp-"
"""The start of a temporary file's name: what a killed program leaves under such a name is of no use."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary file to write; flush it to the disk and rename it to `path` when the body ends well.

    Whatever stops the body, or the machine, leaves the older `path` as it was. The temporary name is drawn anew each
    time, so that two writers of one file do not meet, and ends like `path`, because writers choose a format by suffix.

    Raises:
        UserError: if the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; make room or give another folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_left_overs(folder: Path) -> None:
    """Remove the temporary files of killed writers from a folder that nobody else writes to."""
    for left_over in folder.glob(f"{TEMPORARY}*"):
        left_over.unlink()
