"""Where the images are: the image files below folders."""

import os
from collections.abc import Sequence
from pathlib import Path

from shards.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")


def find_images(folders: Sequence[Path]) -> dict[str, str]:
    """Find the image files in folders, and in the folders below them.

    Returns:
        Each file's name, which is NIH's image id, to its absolute path.

    Raises:
        UserError: if a folder is missing, no file ends with .png, .jpg or .jpeg, or two files have one name.
    """
    found: dict[str, str] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; give --images the folder that holds the image files")
        for parent, _, names in os.walk(folder.resolve()):
            for name in names:
                if name.lower().endswith(SUFFIXES):
                    path = str(Path(parent, name))
                    if found.setdefault(name, path) != path:
                        raise UserError(f"{path} and {found[name]} have one name: give --images one of their folders")
    if not found:
        raise UserError(f"{', '.join(map(str, folders))}: no image found (.png, .jpg or .jpeg); give another --images")
    return found
