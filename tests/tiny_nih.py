"""A tiny data set in NIH's layout, for tests that pack."""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shards.manifest import Manifest
from shards.pack import pack

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
)
FINDINGS = ("No Finding", "Effusion|Mass", "Hernia", "Pneumonia|Edema|Nodule")


def image_name(patient: int, study: int) -> str:
    return f"{patient:08d}_{study:03d}.png"


def png(seed: int, size: int = 40) -> bytes:
    """An 8-bit grey PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_nih(folder: Path, num_patients: int = 20, studies: int = 2, size: int = 40) -> tuple[Path, Path]:
    """Write images and a label table in NIH's v2020 format; return the folder of images and the table."""
    images, labels = folder / "images", folder / "Data_Entry_2017_v2020.csv"
    images.mkdir(parents=True)
    rows = []
    for patient in range(1, num_patients + 1):
        for study in range(studies):
            name = image_name(patient, study)
            (images / name).write_bytes(png(zlib.crc32(name.encode()), size))
            finding = FINDINGS[(patient + study) % len(FINDINGS)]
            rows.append(f"{name},{finding},{study},{patient},{30 + patient},F,PA,2500,2048,0.171,0.171\n")
    labels.write_text(HEADER + "".join(rows))
    return images, labels


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pack_tiny(out: Path, images: Path, labels: Path, **settings: Any) -> Manifest:
    """Pack at 24 pixels with 2 workers, split by patient, unless the settings say otherwise."""
    options: dict[str, Any] = {"split": ["patient"], "size": 24, "num_workers": 2, "progress": False, **settings}
    return pack(out, "nih", [images], labels, **options)
