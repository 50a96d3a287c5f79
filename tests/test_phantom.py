import csv
import io
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shards.datasets import phantom
from shards.datasets.phantom import draw_studies, in_test_list, prevalences, write_phantoms
from shards.datasets.phantom_image import draw_phantom, draw_with_boxes
from shards.datasets.phantom_png import encode_grey_png
from shards.errors import UserError
from shards.findings import NIH_FINDINGS

BOUNDED = ("Atelectasis", "Mass", "Nodule", "Pneumonia", "Infiltration")
"""Findings that change nothing far from their box."""


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantoms") / "new" / "folder"
    write_phantoms(out, 60, size=64, seed=3, enrich=3.0, progress=False)
    return out


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_folder_holds_nih_files_and_nothing_else(phantoms: Path) -> None:
    assert sorted(path.name for path in phantoms.iterdir()) == [
        "BBox_List_2017.csv",
        "Data_Entry_2017_v2020.csv",
        "images",
        "test_list.txt",
        "train_val_list.txt",
    ]


def test_label_table_has_nih_header_and_eleven_fields_a_row(phantoms: Path) -> None:
    header, *body = rows(phantoms / "Data_Entry_2017_v2020.csv")
    assert ",".join(header) == (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    assert {len(row) for row in [header, *body]} == {11}
    assert [row[0] for row in body] == sorted(path.name for path in (phantoms / "images").iterdir())
    for image_id, labels, follow_up, patient, age, sex, view, width, height, x_spacing, y_spacing in body:
        assert image_id == f"{int(patient):08d}_{int(follow_up):03d}.png"
        assert labels == "No Finding" or set(labels.split("|")) <= set(NIH_FINDINGS)
        assert 18 <= int(age) < 100
        assert sex in "MF"
        assert view in ("PA", "AP")
        assert min(int(width), int(height)) > 2000
        assert 0.1 < float(x_spacing) == float(y_spacing) < 0.2


def test_patients_have_several_images_and_grow_older(phantoms: Path) -> None:
    body = rows(phantoms / "Data_Entry_2017_v2020.csv")[1:]
    ages: dict[str, list[int]] = {}
    for row in body:
        ages.setdefault(row[3], []).append(int(row[4]))
    assert max(map(len, ages.values())) > 2
    assert all(ages[patient] == sorted(ages[patient]) for patient in ages)
    assert any(ages[patient][0] < ages[patient][-1] for patient in ages)
    assert all(len({row[5] for row in body if row[3] == patient}) == 1 for patient in ages)


def test_split_lists_share_no_patient_and_hold_every_image(phantoms: Path) -> None:
    train = (phantoms / "train_val_list.txt").read_text().split()
    test = (phantoms / "test_list.txt").read_text().split()
    assert sorted(train + test) == sorted(path.name for path in (phantoms / "images").iterdir())
    assert not {name[:8] for name in train} & {name[:8] for name in test}
    assert train and test


def test_test_list_takes_23_percent_of_patients() -> None:
    assert sum(map(in_test_list, range(1, 10_001))) == 2300
    assert any(map(in_test_list, range(1, 5)))


def test_every_localisable_finding_has_one_box_inside_the_image(phantoms: Path) -> None:
    header, *body = (phantoms / "BBox_List_2017.csv").read_text().splitlines()
    assert header == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    expected = {
        (row[0], phantom.BOX_NAMES[label])
        for row in rows(phantoms / "Data_Entry_2017_v2020.csv")[1:]
        for label in row[1].split("|")
        if label in phantom.BOX_NAMES
    }
    boxes = [row.split(",") for row in body]
    assert {(image_id, label) for image_id, label, *_ in boxes} == expected
    assert len(boxes) == len(expected)
    for _, _, *numbers in boxes:
        x, y, width, height = map(float, numbers)
        assert x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= 1024 and y + height <= 1024


def test_bytes_do_not_depend_on_workers_or_number_of_images(phantoms: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path, 20, size=64, seed=3, enrich=3.0, num_workers=1, progress=False)
    fewer, more = read_files(tmp_path), read_files(phantoms)
    images = [name for name in fewer if name.startswith("images/")]
    assert len(images) == 20
    assert all(fewer[name] == more[name] for name in images)
    table = "Data_Entry_2017_v2020.csv"
    assert more[table].startswith(fewer[table])


def test_another_seed_gives_other_images_and_labels(phantoms: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path, 20, size=64, seed=4, enrich=3.0, progress=False)
    one, other = read_files(phantoms), read_files(tmp_path)
    assert one["images/00000001_000.png"] != other["images/00000001_000.png"]
    assert not one["Data_Entry_2017_v2020.csv"].startswith(other["Data_Entry_2017_v2020.csv"])


def test_prevalence_is_nihs_by_default() -> None:
    studies = list(islice(draw_studies(seed=0, enrich=1.0), 20_000))
    counts = Counter(finding for study in studies for finding in study.findings)
    for finding, share in prevalences(1.0).items():
        # Four standard deviations of a binomial count.
        assert abs(counts[finding] / 20_000 - share) < 4 * (share / 20_000) ** 0.5, finding
    assert prevalences(1.0)["Hernia"] == 227 / 112_120
    assert sum(not study.findings for study in studies) / 20_000 == pytest.approx(0.538, abs=0.015)
    assert sum(study.view == "AP" for study in studies) / 20_000 == pytest.approx(0.40, abs=0.015)
    assert sum(study.rgba for study in studies) / 20_000 == pytest.approx(0.01, abs=0.003)


def test_enrichment_multiplies_prevalence_up_to_a_cap() -> None:
    assert prevalences(10.0)["Hernia"] == 2270 / 112_120
    assert set(prevalences(100.0).values()) == {0.2}
    assert not any(study.findings for study in islice(draw_studies(seed=0, enrich=0.0), 100))


def test_one_percent_of_files_are_rgba_of_equal_channels(tmp_path: Path) -> None:
    study = next(study for study in draw_studies(seed=0, enrich=1.0) if study.rgba)
    phantom.write_phantom(study, tmp_path, size=64, seed=0)
    with Image.open(tmp_path / study.image_id) as image:
        assert image.mode == "RGBA"
        pixels = np.asarray(image)
    grey = draw_phantom(study.findings, 64, 0, study.patient, study.follow_up, study.view, study.sex)
    assert all((pixels[..., channel] == grey).all() for channel in range(3))
    assert (pixels[..., 3] == 255).all()


@pytest.mark.parametrize("finding", NIH_FINDINGS)
def test_every_finding_is_visible_on_its_own(finding: str) -> None:
    for patient in range(1, 5):
        plain = draw_phantom((), 128, patient=patient).astype(int)
        pixels, boxes = draw_with_boxes((finding,), 128, 0, patient, 0, "PA", "M")
        change = np.abs(pixels - plain)
        # A finding covers at least 0.1 % of the image by a contrast that outlasts shrinking.
        assert (change > 20).mean() > 0.001
        if finding in BOUNDED:
            x, y, width, height = np.array(boxes[finding]) / 8
            far = np.ones((128, 128), bool)
            far[max(0, int(y) - 16) : int(y + height) + 16, max(0, int(x) - 16) : int(x + width) + 16] = False
            assert change[far].max() <= 8


def test_an_unknown_finding_is_an_error() -> None:
    with pytest.raises(UserError, match="unknown finding 'Nodul'"):
        draw_phantom(("Nodul",), 32)


@pytest.mark.parametrize("finding", ["Consolidation", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumothorax"])
def test_a_one_sided_finding_stays_on_its_side(finding: str) -> None:
    for patient in range(1, 5):
        _, boxes = draw_with_boxes((finding,), 128, 0, patient, 0, "PA", "M")
        x, _, width, _ = boxes[finding]
        assert x > 0.45 * 1024 or x + width < 0.55 * 1024


def test_cardiomegaly_box_spans_more_than_half_of_the_thorax() -> None:
    for patient in range(1, 6):
        _, boxes = draw_with_boxes(("Cardiomegaly",), 128, 0, patient, 0, "PA", "M")
        assert boxes["Cardiomegaly"][2] > 0.36 * 1024


def test_nodules_are_smaller_than_masses() -> None:
    def width(finding: str, patient: int) -> float:
        return draw_with_boxes((finding,), 256, 0, patient, 0, "PA", "M")[1][finding][2]

    nodules = [width("Nodule", patient) for patient in range(1, 9)]
    masses = [width("Mass", patient) for patient in range(1, 9)]
    # 3 cm is 77 of 1024 pixels when an X-ray is 40 cm wide; a box ends on whole pixels of the drawing.
    assert max(nodules) < 100 < min(masses)


@settings(max_examples=25, deadline=None)
@given(
    findings=st.sets(st.sampled_from(NIH_FINDINGS)),
    patient=st.integers(1, 10**6),
    view=st.sampled_from(("PA", "AP")),
    sex=st.sampled_from(("M", "F")),
)
def test_any_combination_of_findings_can_be_drawn(findings: set[str], patient: int, view: str, sex: str) -> None:
    pixels, boxes = draw_with_boxes(findings, 32, 0, patient, 0, view, sex)
    assert pixels.shape == (32, 32)
    assert pixels.dtype == np.uint8
    assert set(boxes) == findings
    assert all(width > 0 and height > 0 for _, _, width, height in boxes.values())


def test_the_same_xray_is_drawn_at_every_size() -> None:
    large = Image.fromarray(draw_phantom(("Mass",), 512, patient=7)).resize((64, 64), Image.Resampling.BOX)
    small = draw_phantom(("Mass",), 64, patient=7)
    assert np.abs(np.asarray(large, float) - small).mean() < 6


def test_a_patients_anatomy_is_stable_over_follow_ups() -> None:
    def mean_difference(one: tuple[int, int], other: tuple[int, int]) -> float:
        shapes = []
        for patient, follow_up in (one, other):
            pixels = draw_phantom((), 64, patient=patient, follow_up=follow_up).astype(float)
            shapes.append((pixels - pixels.mean()) / pixels.std())
        return float(np.abs(shapes[0] - shapes[1]).mean())

    same = np.mean([mean_difference((patient, 0), (patient, 1)) for patient in range(1, 13)])
    different = np.mean([mean_difference((patient, 0), (patient + 1, 1)) for patient in range(1, 13)])
    assert same < different


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (64, 64)])
def test_grey_png_decodes_to_the_same_pixels(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(encode_grey_png(pixels))) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"num_images": 0}, "0 images asked for"),
        ({"num_images": 1, "size": 31}, "size 31 is too small"),
        ({"num_images": 1, "enrich": -1.0}, "enrich -1.0 is negative"),
        ({"num_images": 1, "seed": -1}, "seed -1 is negative"),
        ({"num_images": 1, "num_workers": 0}, "0 workers asked for"),
    ],
)
def test_impossible_requests_are_user_errors_and_write_nothing(tmp_path: Path, request_: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_phantoms(tmp_path / "out", **request_)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["images", "Data_Entry_2017_v2020.csv", "test_list.txt"])
def test_files_that_stand_in_the_folder_are_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"{name} exists already: remove it or write to another folder"):
        write_phantoms(tmp_path, 1, size=32)
    assert read_files(tmp_path) == {name: b"mine"}


def test_a_failure_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(phantom, "write_tables", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantoms(tmp_path, 2, size=32, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
@pytest.mark.slow
def test_files_are_as_large_and_as_slow_to_decode_as_nihs(nih: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path, 40, size=1024, progress=False)
    real = [path.read_bytes() for path in sorted((nih / "images").iterdir())]
    drawn = [path.read_bytes() for path in sorted((tmp_path / "images").iterdir())]

    def decode_ms(files: list[bytes]) -> float:
        times = []
        for file in files:
            start = time.perf_counter()
            Image.open(io.BytesIO(file)).load()
            times.append(1000 * (time.perf_counter() - start))
        return float(np.median(times))

    assert np.mean(list(map(len, drawn))) == pytest.approx(np.mean(list(map(len, real))), rel=0.2)
    # Rounds alternate, and the best of each counts, so that a busy machine slows both alike.
    rounds = [(decode_ms(drawn), decode_ms(real[:40])) for _ in range(4)]
    assert min(ours for ours, _ in rounds) == pytest.approx(min(theirs for _, theirs in rounds), rel=0.2)
