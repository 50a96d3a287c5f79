"""Where the images are: image files below folders, and archives that are read as streams."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")
ARCHIVE = re.compile(r"images[-_]\d+\.(tar|tar\.gz|tgz)$")
"""The archives that a folder is searched for: NIH's images_001.tar.gz or images_01.tar.gz, and images-224.tar."""

ImageId = Callable[[str], str | None]


@dataclass(frozen=True)
class Sources:
    """What was found: each image's id to the absolute path of its file, and the archives, by name.

    Which images an archive holds, reading it tells.
    """

    files: dict[str, str]
    archives: tuple[str, ...]


def find_sources(paths: Sequence[Path], image_id: ImageId) -> Sources:
    """Find the images and archives at paths: folders with what lies below them, and archives named themselves.

    Args:
        paths: folders and .tar, .tar.gz or .tgz files.
        image_id: gives an image's id by its path; a file of which it gives None is known by its whole path.

    Raises:
        UserError: if a path is missing, a folder below it cannot be read, nothing is found, or two files are of one
            image.
    """
    files: dict[str, str] = {}
    archives = []
    for path in paths:
        for found in _found_at(path):
            if is_image(found):
                image = image_id(found) or found
                if files.setdefault(image, found) != found:
                    raise UserError(f"{found} and {files[image]} are one image: give --images one of their folders")
            else:
                archives.append(found)
    if not files and not archives:
        raise UserError(
            f"{', '.join(map(str, paths))}: no image found (.png, .jpg, .jpeg, images_*.tar.gz); give another --images"
        )
    return Sources(files, tuple(sorted(set(archives))))


def is_image(name: str) -> bool:
    """Tell by its name whether a file is an image."""
    return name.lower().endswith(SUFFIXES)


def _found_at(path: Path) -> Iterator[str]:
    """Give the absolute path of each image and archive."""
    if path.is_file() and path.name.endswith((".tar", ".tar.gz", ".tgz")):
        yield _text(path.resolve())
        return
    if not path.is_dir():
        raise UserError(f"{path}: no such folder or archive; give --images what holds the image files")
    for parent, _, names in os.walk(path.resolve(), onerror=_unreadable):
        for name in names:
            if is_image(name) or ARCHIVE.match(name):
                yield _text(Path(parent, name))


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: {error.strerror}; make it readable, or give another --images") from error


def _text(path: Path) -> str:
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{text!r}: not a UTF-8 name; rename it") from error
    return text
