"""Phantoms in the other layouts that data sets come in: the same pictures, moved, archived or written as JPEG."""

import gzip
import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from shards.datasets.nih import read_nih_labels
from shards.datasets.phantom import BOX_LIST, DATA_ENTRY, IMAGES, TEST_LIST, TRAIN_LIST, in_test_list
from shards.errors import UserError
from shards.findings import CHEXPERT_FINDINGS, NIH_FINDINGS

NUM_PARTS = 12
"""NIH's archives, and Kaggle's folders."""
SMALL_SIDE = 224
JPEG_QUALITY = 90
COUNTERPARTS = {
    **{finding: finding for finding in NIH_FINDINGS if finding in CHEXPERT_FINDINGS},
    "Effusion": "Pleural Effusion",
    "Pleural_Thickening": "Pleural Other",
    "Mass": "Lung Lesion",
    "Nodule": "Lung Lesion",
    "Infiltration": "Lung Opacity",
    "Fibrosis": "Lung Opacity",
}
"""CheXpert's names of NIH's findings; it has none for Emphysema and Hernia."""
NOT_POSITIVE = {"": 0.8, "0.0": 0.1, "-1.0": 0.1}
"""How often a finding that is not positive is blank, negative or uncertain: about as in CheXpert."""
CHEXPERT_HEADER = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", *CHEXPERT_FINDINGS)
SEXES = {"M": "Male", "F": "Female"}
SYNTHETIC = ("synthetic/digital", "synthetic/photographic")
NATURAL = "natural/iphone"
SCREEN_BLACK, SCREEN_WHITE = (8, 12, 30), (225, 235, 255)
"""A photographed screen's black and white: bluish, and flat."""


@dataclass(frozen=True)
class ChexpertStudy:
    """A phantom as CheXpert names it: its picture, its folder below `train` or `valid`, and its row's end."""

    picture: Path
    part: str
    study: str
    row: tuple[str, ...]
    has_lateral: bool


def write_layout(phantoms: Path, out: Path, layout: str) -> None:
    """Write the phantoms of a folder in another layout.

    The same phantoms give the same bytes. `out` stands there only once all is written.

    Args:
        phantoms: a folder that `shards.datasets.phantom.write_phantoms` wrote.
        out: the folder to write.
        layout: a key of `LAYOUTS`: kaggle (images_001/images/ ...), archives (NIH's images_001.tar.gz ...), nih-224
            (images-224.tar), chexpert (CheXpert-v1.0-small) or chexphoto (CheXphoto-v1.0).

    Raises:
        UserError: if the layout is unknown, `phantoms` holds no phantoms, or `out` exists.
    """
    if layout not in LAYOUTS:
        raise UserError(f"--layout {layout}: give one of {', '.join(LAYOUTS)}")
    if not (phantoms / IMAGES).is_dir():
        raise UserError(f"{phantoms}: holds no phantoms; write them with `chexnet-fast phantom`")
    if out.exists():
        raise UserError(f"{out}: exists already; remove it or write to another folder")
    unfinished = out.with_name(f".{out.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    LAYOUTS[layout](phantoms, unfinished)
    unfinished.rename(out)


def _write_kaggle(phantoms: Path, out: Path) -> None:
    _copy_tables(phantoms, out)
    for name, pictures in _parts(phantoms):
        folder = out / name / IMAGES
        folder.mkdir(parents=True)
        for picture in pictures:
            shutil.copyfile(picture, folder / picture.name)


def _write_archives(phantoms: Path, out: Path) -> None:
    _copy_tables(phantoms, out)
    for name, pictures in _parts(phantoms):
        with (
            (out / f"{name}.tar.gz").open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as compressed,
            tarfile.open(fileobj=compressed, mode="w") as archive,
        ):
            for picture in pictures:
                _add(archive, f"{IMAGES}/{picture.name}", picture.read_bytes())


def _write_nih_224(phantoms: Path, out: Path) -> None:
    _copy_tables(phantoms, out)
    with tarfile.open(out / "images-224.tar", "w") as archive:
        for picture in _pictures(phantoms):
            small = io.BytesIO()
            Image.open(picture).resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BILINEAR).save(small, "PNG")
            _add(archive, f"images-224/{picture.name}", small.getvalue())


def _write_chexpert(phantoms: Path, out: Path) -> None:
    rows = []
    for study in _studies(phantoms):
        image = f"{study.part}/{study.study}/view1_frontal.jpg"
        picture = Image.open(study.picture).convert("L")
        _save(picture, out / image)
        rows.append((f"CheXpert-v1.0-small/{image}", *study.row))
        if study.has_lateral:  # no phantom is drawn from the side: the frontal one, mirrored, stands in
            image = f"{study.part}/{study.study}/view2_lateral.jpg"
            _save(ImageOps.mirror(picture), out / image)
            sex, age, _, _, *labels = study.row
            rows.append((f"CheXpert-v1.0-small/{image}", sex, age, "Lateral", "", *labels))
    _write_chexpert_tables(out, rows)


def _write_chexphoto(phantoms: Path, out: Path) -> None:
    rows = []
    for study in _studies(phantoms):
        picture = Image.open(study.picture).convert("L")
        renderings = {
            **{folder: ImageOps.autocontrast(picture, cutoff) for cutoff, folder in enumerate(SYNTHETIC, start=1)},
            NATURAL: ImageOps.colorize(picture, SCREEN_BLACK, SCREEN_WHITE),
        }
        for folder, rendering in renderings.items():
            image = f"{study.part}/{folder}/{study.study}/view1_frontal.jpg"
            _save(rendering, out / image)
            rows.append((f"CheXphoto-v1.0/{image}", *study.row))
    _write_chexpert_tables(out, rows)


LAYOUTS: dict[str, Callable[[Path, Path], None]] = {
    "kaggle": _write_kaggle,
    "archives": _write_archives,
    "nih-224": _write_nih_224,
    "chexpert": _write_chexpert,
    "chexphoto": _write_chexphoto,
}


def _pictures(phantoms: Path) -> list[Path]:
    return sorted((phantoms / IMAGES).iterdir())


def _parts(phantoms: Path) -> Iterator[tuple[str, list[Path]]]:
    """Cut the pictures into NIH's twelve parts, of which a few phantoms fill not all."""
    pictures = _pictures(phantoms)
    num_pictures = -(-len(pictures) // NUM_PARTS)
    for part, start in enumerate(range(0, len(pictures), num_pictures), start=1):
        yield f"images_{part:03d}", pictures[start : start + num_pictures]


def _copy_tables(phantoms: Path, out: Path) -> None:
    for name in (DATA_ENTRY, BOX_LIST, TRAIN_LIST, TEST_LIST):
        shutil.copyfile(phantoms / name, out / name)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    archive.addfile(header, io.BytesIO(data))


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "JPEG", quality=JPEG_QUALITY)


def _studies(phantoms: Path) -> Iterator[ChexpertStudy]:
    """Give the phantoms as CheXpert's studies; patients of the test list are in `valid`."""
    labels = read_nih_labels(phantoms / DATA_ENTRY)
    for study in labels.to_dict("records"):
        patient, follow_up = int(study["patient_id"]), int(study["follow_up"])
        rng = np.random.default_rng([patient, follow_up])
        positive = {COUNTERPARTS.get(finding) for finding in NIH_FINDINGS if study[finding] == 1}
        values = [
            "1.0" if finding in positive else str(rng.choice(list(NOT_POSITIVE), p=list(NOT_POSITIVE.values())))
            for finding in CHEXPERT_FINDINGS
        ]
        no_finding = "" if any(study[finding] == 1 for finding in NIH_FINDINGS) else "1.0"
        yield ChexpertStudy(
            picture=phantoms / IMAGES / study["image_id"],
            part="valid" if in_test_list(patient) else "train",
            study=f"patient{patient:05d}/study{follow_up + 1}",
            row=(SEXES[study["sex"]], str(study["age"]), "Frontal", study["view"], no_finding, *values),
            has_lateral=follow_up % 2 == 1,
        )


def _write_chexpert_tables(out: Path, rows: list[tuple[str, ...]]) -> None:
    table = pd.DataFrame(rows, columns=list(CHEXPERT_HEADER))
    part = table["Path"].str.split("/").str[1]
    for name in ("train", "valid"):
        table[part == name].to_csv(out / f"{name}.csv", index=False, lineterminator="\n")
