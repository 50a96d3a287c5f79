"""Write a synthetic data set in NIH ChestX-ray14's layout and file formats: phantoms instead of patients."""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from tqdm import tqdm

from shards.datasets.phantom_image import Box, draw_with_boxes
from shards.datasets.phantom_png import encode_grey_png
from shards.errors import UserError
from shards.findings import NIH_FINDINGS

NIH_NUM_IMAGES = 112_120
NIH_NUM_POSITIVES = {
    "Atelectasis": 11_559,
    "Cardiomegaly": 2_776,
    "Effusion": 13_317,
    "Infiltration": 19_894,
    "Mass": 5_782,
    "Nodule": 6_331,
    "Pneumonia": 1_431,
    "Pneumothorax": 5_302,
    "Consolidation": 4_667,
    "Edema": 2_303,
    "Emphysema": 2_516,
    "Fibrosis": 1_686,
    "Pleural_Thickening": 3_385,
    "Hernia": 227,
}
"""Images per finding, counted from NIH's Data_Entry_2017_v2020.csv; 60,361 images (53.8 %) have no finding."""

ILL_SHARE = 2 / 3
"""Share of images that may have findings. Findings come independently in these: 53.8 % of all have none, as in NIH."""

MAX_PREVALENCE = 0.2
"""No finding is enriched beyond this share of the images: more would bury one finding under the others."""

BOX_NAMES = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Effusion": "Effusion",
    "Infiltration": "Infiltrate",
    "Mass": "Mass",
    "Nodule": "Nodule",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
}
"""The findings of NIH's BBox_List_2017.csv, by the names they have there."""

DETECTORS = {
    "PA": (("2992", "2991", "0.14300000000000002"), ("2500", "2048", "0.171"), ("2048", "2500", "0.171")),
    "AP": (("2500", "2048", "0.168"), ("3056", "2544", "0.139"), ("2021", "2021", "0.19431099999999998")),
}
"""Width and height in pixels, and pixel spacing in mm, of NIH's most frequent originals."""

AP_SHARE = 0.40
RGBA_SHARE = 0.01
TEST_SHARE = 0.23
"""Shares of NIH's images: 44,810 are AP, about 1 % are RGBA files, 25,596 are in test_list.txt."""

MAX_IMAGES_PER_PATIENT = 12

IMAGES = "images"
DATA_ENTRY = "Data_Entry_2017_v2020.csv"
BOX_LIST = "BBox_List_2017.csv"
TRAIN_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"
DATA_ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_LIST_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


@dataclass(frozen=True)
class Study:
    """One image to draw, and its row of the label table."""

    patient: int
    follow_up: int
    age: int
    sex: str
    view: str
    findings: tuple[str, ...]
    detector: tuple[str, str, str]
    rgba: bool

    @property
    def image_id(self) -> str:
        """The name of the image's file."""
        return f"{self.patient:08d}_{self.follow_up:03d}.png"


def write_phantoms(
    out: Path,
    num_images: int,
    size: int = 1024,
    seed: int = 0,
    enrich: float = 1.0,
    num_workers: int | None = None,
    progress: bool = True,
) -> None:
    """Write phantoms with NIH's folder layout: images, labels, the two split lists and the boxes.

    An image's bytes and labels depend on the seed, its patient and its follow-up number (and size and enrich), not
    on the number of workers or of images: a larger set begins with the smaller one. Every file stands in `out` only
    once all are written.

    Args:
        out: folder to write to; made if absent.
        num_images: number of images; patients have 1 to 12.
        size: side of the images in pixels.
        seed: of all random draws.
        enrich: factor on NIH's prevalence of every finding, which then ends at `MAX_PREVALENCE`; 1 is NIH's own.
        num_workers: processes; all cores by default.
        progress: show a progress bar on standard error.

    Raises:
        UserError: if num_images or num_workers is below 1, size is below 32, seed or enrich is below 0, `out` is a
            file, or one of the files to write stands in `out`.
    """
    check_request(out, num_images, size, seed, enrich, num_workers)
    studies = list(islice(draw_studies(seed, enrich), num_images))
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=".unfinished-") as name:
        unfinished = Path(name)
        (unfinished / IMAGES).mkdir()
        write_image = partial(write_phantom, folder=unfinished / IMAGES, size=size, seed=seed)
        with ProcessPoolExecutor(num_workers or os.cpu_count()) as pool:
            drawn = pool.map(write_image, studies, chunksize=8)
            boxes = list(tqdm(drawn, total=num_images, desc="phantoms", unit="img", disable=not progress))
        write_tables(unfinished, studies, boxes)
        for path in sorted(unfinished.iterdir()):
            path.rename(out / path.name)


def check_request(out: Path, num_images: int, size: int, seed: int, enrich: float, num_workers: int | None) -> None:
    """Raise UserError unless the phantoms can be written."""
    if num_images < 1:
        raise UserError(f"{num_images} images asked for: ask for 1 or more")
    if size < 32:
        raise UserError(f"size {size} is too small to show findings: use 32 or more")
    if seed < 0:
        raise UserError(f"seed {seed} is negative: use 0 or more")
    if enrich < 0:
        raise UserError(f"enrich {enrich} is negative: use 0 (no findings) or more")
    if num_workers is not None and num_workers < 1:
        raise UserError(f"{num_workers} workers asked for: use 1 or more")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder")
    for name in (IMAGES, DATA_ENTRY, BOX_LIST, TRAIN_LIST, TEST_LIST):
        if (out / name).exists():
            raise UserError(f"{out / name} exists already: remove it or write to another folder")


def prevalences(enrich: float) -> dict[str, float]:
    """Give each finding's share of all images: NIH's times `enrich`, at most `MAX_PREVALENCE`."""
    return {
        finding: min(MAX_PREVALENCE, enrich * num_positives / NIH_NUM_IMAGES)
        for finding, num_positives in NIH_NUM_POSITIVES.items()
    }


def draw_studies(seed: int, enrich: float) -> Iterator[Study]:
    """Draw the studies of one patient after the other, without end."""
    shares = np.array([prevalences(enrich)[finding] for finding in NIH_FINDINGS])
    ill_share = min(1.0, ILL_SHARE * max(1.0, enrich))
    patient = 0
    while True:
        patient += 1
        # The third number tells these draws from those of the pictures, which start from (seed, patient, follow-up).
        rng = np.random.default_rng([seed, patient, MAX_IMAGES_PER_PATIENT])
        sex = "M" if rng.random() < 0.565 else "F"
        age = int(np.clip(rng.normal(46, 16), 18, 88))
        num_studies = min(MAX_IMAGES_PER_PATIENT, int(rng.geometric(0.4)))
        for follow_up in range(num_studies):
            view = "AP" if rng.random() < AP_SHARE else "PA"
            present = rng.random(len(shares)) < (rng.random() < ill_share) * shares / ill_share
            yield Study(
                patient=patient,
                follow_up=follow_up,
                age=age,
                sex=sex,
                view=view,
                findings=tuple(finding for finding, drawn in zip(NIH_FINDINGS, present, strict=True) if drawn),
                detector=DETECTORS[view][rng.integers(len(DETECTORS[view]))],
                rgba=bool(rng.random() < RGBA_SHARE),
            )
            age += int(rng.random() < 0.4)


def write_phantom(study: Study, folder: Path, size: int, seed: int) -> dict[str, Box]:
    """Draw one study and write its file; return the findings' boxes."""
    pixels, boxes = draw_with_boxes(study.findings, size, seed, study.patient, study.follow_up, study.view, study.sex)
    (folder / study.image_id).write_bytes(encode_rgba_png(pixels) if study.rgba else encode_grey_png(pixels))
    return boxes


def encode_rgba_png(pixels: np.ndarray) -> bytes:
    """Encode a grey image with four channels (R = G = B, alpha 255), as about 1 % of NIH's files are."""
    grey = Image.fromarray(pixels)
    file = io.BytesIO()
    Image.merge("RGBA", (grey, grey, grey, Image.new("L", grey.size, 255))).save(file, "PNG", compress_level=1)
    return file.getvalue()


def in_test_list(patient: int) -> bool:
    """Tell whether a patient is in the test list: evenly spread, `TEST_SHARE` of any run of patients."""
    return int(patient * TEST_SHARE + 0.5) > int((patient - 1) * TEST_SHARE + 0.5)


def write_tables(folder: Path, studies: list[Study], boxes: list[dict[str, Box]]) -> None:
    """Write the label table, the split lists and the box list, each in NIH's format."""
    write_lines(folder / DATA_ENTRY, [DATA_ENTRY_HEADER, *map(data_entry_row, studies)])
    write_lines(folder / TRAIN_LIST, [study.image_id for study in studies if not in_test_list(study.patient)])
    write_lines(folder / TEST_LIST, [study.image_id for study in studies if in_test_list(study.patient)])
    rows = [
        ",".join([study.image_id, BOX_NAMES[finding], *map(str, box)])
        for study, study_boxes in zip(studies, boxes, strict=True)
        for finding, box in study_boxes.items()
        if finding in BOX_NAMES
    ]
    write_lines(folder / BOX_LIST, [BOX_LIST_HEADER, *rows])


def data_entry_row(study: Study) -> str:
    """Format a study as a row of Data_Entry_2017_v2020.csv: 11 fields, though the header shows 9 names."""
    width, height, spacing = study.detector
    labels = "|".join(sorted(study.findings)) or "No Finding"
    fields = (study.image_id, labels, study.follow_up, study.patient, study.age, study.sex, study.view)
    return ",".join(map(str, (*fields, width, height, spacing, spacing)))


def write_lines(path: Path, lines: list[str]) -> None:
    """Write lines, each ended by a newline."""
    path.write_text("".join(f"{line}\n" for line in lines))
