import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_report import Page
from tiny_nih import write_nih

from chexnet_fast.explore import count_categories, count_labels, count_together, explore, findings_text, notes
from chexnet_fast.explore_plots import plot_ages, plot_categories, plot_cooccurrence, plot_samples
from shards.errors import UserError
from shards.findings import FOLDS, NIH_FINDINGS
from shards.manifest import read_manifest, sha256_of, write_manifest
from shards.pack import pack
from shards.table import read_table, write_table


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explore")
    images, labels = write_nih(folder / "nih")
    pack(folder / "shards", "nih", [images], labels, ["patient"], size=16, progress=False)
    return folder / "shards"


@pytest.fixture(scope="module")
def explored(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explore(shards, tmp_path_factory.mktemp("explored") / "out").parent


@pytest.fixture(scope="module")
def bare(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shards with a table that knows no age and no sex, and not each label."""
    folder = Path(shutil.copytree(shards, tmp_path_factory.mktemp("bare") / "shards"))
    manifest = read_manifest(folder)
    table = read_table(folder / manifest.table, NIH_FINDINGS).drop(columns="age").assign(sex=np.nan)
    table.loc[:6, "Mass"] = np.nan
    table.loc[7:8, "Mass"] = -1
    table.loc[:9, "view"] = np.nan
    write_table(table, folder / manifest.table)
    write_manifest(dataclasses.replace(manifest, table_sha256=sha256_of(folder / manifest.table)), folder)
    return folder


@pytest.fixture(scope="module")
def bare_explored(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explore(bare, tmp_path_factory.mktemp("bare_explored")).parent


def table_of(shards: Path) -> pd.DataFrame:
    return read_table(shards / "table.csv", NIH_FINDINGS)


def page_text(folder: Path) -> str:
    return re.sub(r"<[^>]+>", " ", (folder / "explore.html").read_text(encoding="utf-8"))


def test_everything_is_drawn_and_written(explored: Path) -> None:
    pictures = {"findings", "age", "sex", "view", "patients"}
    pictures |= {f"{kind}-{fold}" for kind in ("cooccurrence", "samples") for fold in FOLDS}
    assert {path.stem for path in explored.glob("*.png")} == pictures
    tables = {"findings", "cooccurrence", "age", "sex", "view", "patients", "samples"}
    assert {path.stem for path in explored.glob("*.csv")} == tables
    assert len(list(explored.iterdir())) == len(pictures) + len(tables) + 1
    assert all(Image.open(path).width > 600 for path in explored.glob("*.png"))


def test_the_numbers_are_the_tables(shards: Path, explored: Path) -> None:
    table = table_of(shards)
    findings = pd.read_csv(explored / "findings.csv").set_index(["fold", "finding"])
    ages = pd.read_csv(explored / "age.csv").set_index(["fold", "age"])["num_images"]
    patients = pd.read_csv(explored / "patients.csv")
    together = pd.read_csv(explored / "cooccurrence.csv").set_index(["fold", "finding"])
    for fold in FOLDS:
        rows = table[table["fold"] == fold]
        for finding in NIH_FINDINGS:
            assert findings.loc[(fold, finding), "num_positive"] == (rows[finding] == 1).sum()
        assert together.loc[(fold, "Edema"), "Nodule"] == (rows["Edema"] * rows["Nodule"]).sum()
        assert together.loc[(fold, "Effusion"), "Edema"] == 0
        assert ages[fold].sort_index().to_dict() == rows["age"].value_counts().sort_index().to_dict()
    assert patients.to_numpy().tolist() == [["train", 2, 14], ["val", 2, 2], ["test", 2, 4]]
    assert pd.read_csv(explored / "sex.csv").to_numpy().tolist() == [
        ["train", "F", 28],
        ["val", "F", 4],
        ["test", "F", 8],
    ]


def test_samples_are_drawn_from_the_seed_with_their_own_findings(shards: Path, explored: Path, tmp_path: Path) -> None:
    samples = pd.read_csv(explored / "samples.csv")
    assert samples["fold"].value_counts().to_dict() == {"train": 12, "test": 8, "val": 4}
    assert samples["image_id"].is_unique
    table = table_of(shards).set_index("image_id")
    for fold, image, findings in samples.itertuples(index=False):
        positive = [name for name in NIH_FINDINGS if table.loc[image, name] == 1]
        assert table.loc[image, "fold"] == fold
        assert findings == (", ".join(positive) or "No finding")
    other = explore(shards, tmp_path, seed=1).parent
    same = {path.name for path in explored.iterdir() if path.read_bytes() == (other / path.name).read_bytes()}
    drawn = {"explore.html", "samples.csv", "samples-train.png"}
    assert drawn <= {path.name for path in explored.iterdir()} - same <= drawn | {"samples-val.png", "samples-test.png"}


def test_the_page_is_whole_and_asks_for_nothing_outside(explored: Path) -> None:
    text = (explored / "explore.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open_tags == []
    assert not re.search(r"(?:src|href)=\"(?!data:image/png;base64,|#)", text)
    assert "url(" not in text
    assert "<script" not in text
    assert len(page.images) == 11
    assert all(len(str(image["alt"])) > 20 for image in page.images)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_says_what_is_in_the_folds(explored: Path) -> None:
    text = page_text(explored)
    assert "20 patients" in text
    assert "70.0%, 14 patients" in text
    assert "Pleural Thickening" in text
    assert "Data_Entry_2017_v2020.csv" in text
    assert "not drawn" not in text
    assert "unknown" not in text


def test_what_the_labels_do_not_tell_is_said_and_not_drawn(bare_explored: Path) -> None:
    text = page_text(bare_explored)
    assert "The labels do not tell the age: it is not drawn." in text
    assert "The labels do not tell the sex: it is not drawn." in text
    assert "the view position: it is not drawn" not in text
    assert "7 labels are unknown" in text
    assert "2 labels are uncertain" in text
    for name in ("age.png", "age.csv", "sex.png", "sex.csv"):
        assert not (bare_explored / name).exists()
    assert Page((bare_explored / "explore.html").read_text()).open_tags == []


def test_unknown_metadata_and_labels_are_counted_as_unknown(bare: Path, bare_explored: Path) -> None:
    views = pd.read_csv(bare_explored / "view.csv")
    assert views.loc[views["view"].isna(), "num_images"].sum() == 10
    assert count_categories(table_of(bare), "view", FOLDS).loc["unknown"].sum() == 10
    mass = pd.read_csv(bare_explored / "findings.csv").query("finding == 'Mass'")
    assert mass["num_unknown"].sum() == 7
    assert mass["num_uncertain"].sum() == 2


def test_an_out_that_is_a_file_is_named(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="file: File exists"):
        explore(shards, tmp_path / "file")


TABLE = pd.DataFrame(
    {
        "fold": ["train"] * 4 + ["test"],
        "Mass": [1, 0, np.nan, -1, np.nan],
        "Lung Lesion": [1, 1, 1, 0, 0],
        "age": [50, 120, np.nan, 40, 30],
    }
)


def test_labels_are_counted_by_kind() -> None:
    counts = count_labels(TABLE, ("Mass", "Lung Lesion")).set_index(["fold", "finding"])
    assert counts.loc[("train", "Mass")].tolist() == [1, 1, 1, 1, 0.5]
    assert counts.loc[("train", "Lung Lesion")].tolist() == [3, 1, 0, 0, 0.75]
    assert counts.loc[("test", "Mass")].tolist()[:4] == [0, 0, 0, 1]
    assert np.isnan(counts.loc[("test", "Mass"), "share"])
    assert count_together(TABLE, ("Mass", "Lung Lesion")).to_numpy().tolist() == [[1, 1], [1, 3]]


def test_the_table_for_people_keeps_names_and_counts_together() -> None:
    text = findings_text(count_labels(TABLE, ("Mass", "Lung Lesion")), ("train", "test"))
    assert text.to_numpy().tolist() == [
        ["Lung Lesion", "3 (75.0%)", "0 (0.0%)", "0", "0"],
        ["Mass", "1 (50.0%)", "0 (–)", "1", "2"],
    ]
    assert list(text.columns) == ["Finding", "train", "test", "Uncertain", "Unknown"]


def test_strange_ages_are_said() -> None:
    counts = count_labels(TABLE, ("Lung Lesion",))
    assert notes(TABLE, counts, ("age", "sex", "view")) == [
        "1 images have no age: they are in age.csv, but not in its picture.",
        "1 images have an age above 100 years: they are in age.csv, but not in its picture.",
    ]


def test_a_heatmaps_cell_is_the_share_of_its_rows_finding() -> None:
    counts = pd.DataFrame([[4, 1, 0], [1, 2, 0], [0, 0, 0]], index=list("ABC"), columns=list("ABC"))
    axes = plot_cooccurrence(counts, "train").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A (4)", "B (2)", "C (0)"]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {((1, 0), "25%"), ((0, 1), "50%")}


def test_bars_carry_their_own_names_and_counts() -> None:
    counts = pd.DataFrame({"train": [3, 1], "test": [0, 0]}, index=["PA", "AP"])
    axes = plot_categories(counts, "View position", "images").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["PA", "AP"]
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0.25, 0, 0]
    assert [text.get_text() for text in axes.texts] == ["75.0% (3)", "25.0% (1)", "0.0% (0)", "0.0% (0)"]


def test_ages_are_shares_of_the_folds_known_ones() -> None:
    axes = plot_ages({"train": pd.Series([2, 3, 7, np.nan]), "test": pd.Series([np.nan])}).axes[0]
    assert axes.patches[0].get_data().values[:3] == pytest.approx([2 / 3, 1 / 3, 0])
    assert [text.get_text() for text in axes.get_legend().texts] == ["train: median 3 years", "test: no age known"]


def test_samples_stand_under_their_captions() -> None:
    images = [Image.new("L", (500, 400), value) for value in (0, 100, 200, 255, 50)]
    figure = plot_samples(images, list("abcde"), list("vwxyz"))
    drawn = [axes for axes in figure.axes if axes.images]
    assert [(axes.get_title(loc="left"), axes.get_xlabel()) for axes in drawn] == list(
        zip("abcde", "vwxyz", strict=True)
    )
    assert [axes.images[0].get_array().max() for axes in drawn] == [0, 100, 200, 255, 50]
    assert drawn[0].images[0].get_array().shape == (256, 320)
    assert images[0].size == (500, 400)
