"""Every layout, as the phantom generator writes it, packed without being told what it is."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from tiny_nih import folder_bytes

from shards.codec import decode_image, fit_image
from shards.datasets.phantom import write_phantoms
from shards.datasets.phantom_layouts import LAYOUTS, write_layout
from shards.errors import UserError
from shards.findings import CHEXPERT_FINDINGS
from shards.fold import open_fold
from shards.manifest import Manifest, read_manifest
from shards.pack import pack
from shards.policy import LabelPolicy
from shards.table import read_table
from shards.verify import verify

TABLE = "Data_Entry_2017_v2020.csv"
SIZE = 32


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layouts") / "phantoms"
    write_phantoms(folder, 40, 64, seed=2, enrich=3.0, progress=False)
    return folder


@pytest.fixture(scope="module")
def layouts(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layouts") / "by-name"
    for layout in LAYOUTS:
        write_layout(phantoms, folder / layout, layout)
    return folder


def pack_layout(out: Path, images: Path, labels: Path, **settings: object) -> Manifest:
    options = {"split": ["patient"], "size": SIZE, "num_workers": 2, "progress": False, **settings}
    return pack(out, "auto", [images], labels, **options)  # type: ignore[arg-type]


def tars(manifest: Manifest) -> list[str]:
    return [shard.sha256 for shard in manifest.shards]


@pytest.mark.parametrize("layout", ["kaggle", "archives"])
def test_nihs_layouts_give_the_same_tars(phantoms: Path, layouts: Path, tmp_path: Path, layout: str) -> None:
    plain = pack_layout(tmp_path / "plain", phantoms / "images", phantoms / TABLE)
    other = pack_layout(tmp_path / "other", layouts / layout, layouts / layout / TABLE)
    assert other.dataset == "nih"
    assert tars(plain) == tars(other)
    verify(tmp_path / "other", progress=False, decode=True)


def test_the_archive_of_small_images_is_packed_as_it_is(layouts: Path, tmp_path: Path) -> None:
    manifest = pack_layout(tmp_path / "out", layouts / "nih-224", layouts / "nih-224" / TABLE, size=None)
    assert manifest.size == 224
    assert sum(manifest.counts.values()) == 40
    verify(tmp_path / "out", progress=False)


@pytest.fixture(scope="module")
def chexpert(layouts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("chexpert") / "shards"
    pack_layout(out, layouts / "chexpert", layouts / "chexpert", split=[], allow_empty_folds=True)
    return out


def test_chexpert_keeps_its_folds_and_its_source_labels(layouts: Path, chexpert: Path) -> None:
    manifest = read_manifest(chexpert)
    table = read_table(chexpert / manifest.table, manifest.findings)
    assert (manifest.dataset, manifest.findings, manifest.counts["test"]) == ("chexpert", CHEXPERT_FINDINGS, 0)
    assert manifest.labels["file"] == "train.csv + valid.csv"
    assert set(table["view"]) <= {"PA", "AP"}
    tables = "".join((layouts / "chexpert" / name).read_text() for name in ("train.csv", "valid.csv"))
    fields = [line.split(",")[6:] for line in tables.splitlines() if ",Frontal," in line]
    expected = [[float(field or "nan") for field in row] for row in fields]
    np.testing.assert_array_equal(table[list(CHEXPERT_FINDINGS)].to_numpy(), np.array(expected, np.float32))
    assert {-1, 0, 1} <= set(table[list(CHEXPERT_FINDINGS)].to_numpy().flat)
    verify(chexpert, progress=False, decode=True)


@pytest.mark.parametrize(
    ("policy", "uncertain", "blank"),
    [(None, np.nan, 0), (LabelPolicy("ones"), 1, np.nan), (LabelPolicy("zeros", "zeros"), 0, 0)],
)
def test_labels_are_made_at_load_time(
    chexpert: Path, policy: LabelPolicy | None, uncertain: float, blank: float
) -> None:
    fold = open_fold(chexpert, read_manifest(chexpert), "train", policy)
    source = fold.table[list(CHEXPERT_FINDINGS)].to_numpy(np.float32)
    np.testing.assert_array_equal(fold.labels[source == -1], np.float32(uncertain))
    np.testing.assert_array_equal(fold.labels[np.isnan(source)], np.float32(blank))
    np.testing.assert_array_equal(fold.labels[source == 1], 1)
    assert (source == -1).any() and np.isnan(source).any()


def test_both_views_are_packed_if_asked_for(layouts: Path, chexpert: Path, tmp_path: Path) -> None:
    manifest = pack_layout(tmp_path / "out", layouts / "chexpert", layouts / "chexpert", views="both")
    table = read_table(tmp_path / "out" / manifest.table, manifest.findings)
    num_lateral = len(list((layouts / "chexpert").rglob("*_lateral.jpg")))
    assert (table["view"] == "lateral").sum() == num_lateral > 0
    assert len(table) == sum(read_manifest(chexpert).counts.values()) + num_lateral
    with pytest.raises(UserError, match="--views side: give frontal or both"):
        pack_layout(tmp_path / "other", layouts / "chexpert", layouts / "chexpert", views="side")


def test_chexphoto_is_split_by_patient_across_its_renderings(layouts: Path, tmp_path: Path) -> None:
    manifest = pack_layout(tmp_path / "out", layouts / "chexphoto", layouts / "chexphoto")
    table = read_table(tmp_path / "out" / manifest.table, manifest.findings)
    assert manifest.dataset == "chexphoto"
    assert len(table) == 3 * 40
    assert table.groupby("patient_id")["fold"].nunique().max() == 1
    assert sorted({"/".join(name.split("/")[1:3]) for name in table["image_id"]}) == [
        "natural/iphone",
        "synthetic/digital",
        "synthetic/photographic",
    ]
    assert len(tars(manifest)) == len(set(tars(manifest)))


def test_a_colour_photograph_becomes_pillows_luma(layouts: Path, tmp_path: Path) -> None:
    pack_layout(tmp_path / "out", layouts / "chexphoto", layouts / "chexphoto")
    fold = open_fold(tmp_path / "out", read_manifest(tmp_path / "out"), "train")
    position = int(np.flatnonzero(fold.table["image_id"].str.contains("natural"))[0])
    photograph = Path(fold.table["path"].iloc[position])
    assert Image.open(photograph).mode == "RGB"
    expected = fit_image(Image.open(photograph).convert("L"), SIZE)
    assert fold.image(position).tobytes() == expected.tobytes()
    assert decode_image(photograph.read_bytes()).mode == "L"


def test_a_layout_is_the_same_bytes_again_and_never_overwrites(phantoms: Path, layouts: Path, tmp_path: Path) -> None:
    for layout in LAYOUTS:
        write_layout(phantoms, tmp_path / layout, layout)
    assert folder_bytes(tmp_path) == folder_bytes(layouts)
    with pytest.raises(UserError, match="kaggle: exists already"):
        write_layout(phantoms, tmp_path / "kaggle", "kaggle")
    with pytest.raises(UserError, match="--layout zip: give one of kaggle"):
        write_layout(phantoms, tmp_path / "new", "zip")
    with pytest.raises(UserError, match="holds no phantoms"):
        write_layout(tmp_path, tmp_path / "new", "kaggle")


def test_readers_that_are_not_ours_read_the_shards(phantoms: Path, layouts: Path, tmp_path: Path) -> None:
    manifest = pack_layout(tmp_path / "out", layouts / "archives", layouts / "archives" / TABLE, codec="png")
    urls = [str(tmp_path / "out" / shard.file) for shard in manifest.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil"))
    assert len(samples) == 40
    for sample in samples:
        file = phantoms / "images" / sample["json"]["image_id"]
        expected = fit_image(decode_image(file.read_bytes()), SIZE)
        assert sample["png"].convert("L").tobytes() == expected.tobytes()
    listed = [
        name
        for url in urls
        for name in subprocess.run(["tar", "tf", url], check=True, capture_output=True, text=True).stdout.split()
    ]
    assert [name.partition(".")[2] for name in listed] == ["png", "json", "row"] * 40
