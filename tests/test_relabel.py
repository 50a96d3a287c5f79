import os
import re
import shutil
import signal
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_nih import HEADER, folder_bytes, image_name, write_nih

from shards.datasets.chexpert import read_chexpert_labels
from shards.datasets.nih import read_nih_labels
from shards.datasets.registry import DATASETS
from shards.errors import UserError
from shards.findings import CHEXPERT_FINDINGS, NIH_FINDINGS
from shards.fold import open_fold
from shards.manifest import Manifest, OldTable, read_manifest, sha256_of, write_manifest
from shards.pack import pack
from shards.relabel import changed_images, count_changes, relabel
from shards.table import make_study_table, read_table, write_table
from shards.verify import verify

CHANGED = image_name(6, 1)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relabel")
    images, labels = write_nih(folder / "nih")
    (images / image_name(3, 0)).write_bytes(b"")
    pack(folder / "shards", "nih", [images], labels, ["patient"], size=16, max_rejects=1, progress=False)
    return folder


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed / "shards", tmp_path / "shards"))


@pytest.fixture
def new_labels(packed: Path, tmp_path: Path) -> Path:
    """The packed labels in another order, where Pneumonia goes and Fibrosis comes in one image, and ages are lower."""
    header, *rows = (packed / "nih/Data_Entry_2017_v2020.csv").read_text().splitlines()
    rows = [re.sub(r",(\d+),F", lambda age: f",{int(age[1]) - 10},F", row) for row in reversed(rows)]
    changed = [
        row.replace("Pneumonia|Edema|Nodule", "Edema|Fibrosis|Nodule") if CHANGED in row else row for row in rows
    ]
    assert sum(old != new for old, new in zip(rows, changed, strict=True)) == 1
    path = tmp_path / "new.csv"
    path.write_text("\n".join((header, *changed)) + "\n")
    return path


def current_table(shards: Path) -> pd.DataFrame:
    manifest = read_manifest(shards)
    return read_table(shards / manifest.table, manifest.findings)


def check(shards: Path) -> str:
    return str(verify(shards, num_workers=1, progress=False))


def test_labels_and_metadata_are_new_and_the_rest_stays(shards: Path, new_labels: Path) -> None:
    before, packed = folder_bytes(shards), current_table(shards)
    result = relabel(shards, new_labels)
    assert result.changed == (CHANGED,)
    assert str(result) == "table-2.csv: 1 of 40 images changed\n  Pneumonia +0 -1\n  Fibrosis +1 -0"
    table = current_table(shards)
    columns = ["row", "image_id", "path", "patient_id", "fold", "sex", "view", "follow_up"]
    pd.testing.assert_frame_equal(table[columns], packed[columns])
    assert list(table.columns) == list(packed.columns)
    assert (table["age"] == packed["age"] - 10).all()
    after = folder_bytes(shards)
    assert {name for name in after if after[name] != before.get(name)} == {"manifest.json", "table-2.csv"}
    assert before.keys() <= after.keys()


def test_the_loaders_see_the_new_labels(shards: Path, new_labels: Path) -> None:
    fold = current_table(shards).set_index("image_id")["fold"][CHANGED]
    relabel(shards, new_labels)
    opened = open_fold(shards, read_manifest(shards), fold)
    position = list(opened.table["image_id"]).index(CHANGED)
    positive = {name for name, label in zip(NIH_FINDINGS, opened.labels[position], strict=True) if label}
    assert positive == {"Edema", "Fibrosis", "Nodule"}


def test_the_manifest_keeps_the_history(packed: Path, shards: Path, new_labels: Path) -> None:
    old = packed / "nih/Data_Entry_2017_v2020.csv"
    first = read_manifest(shards)
    relabel(shards, new_labels)
    second = read_manifest(shards)
    assert second.labels == {"file": "new.csv", "sha256": sha256_of(new_labels)}
    result = relabel(shards, old)
    third = read_manifest(shards)
    assert third.table == result.table == "table-3.csv"
    assert third.labels == first.labels
    assert third.old_tables == (
        OldTable("table.csv", first.table_sha256, first.labels),
        OldTable("table-2.csv", second.table_sha256, second.labels),
    )
    assert (shards / "table-3.csv").read_bytes() == (shards / "table.csv").read_bytes()


def test_columns_that_the_new_labels_lack_stay_and_are_named(shards: Path, packed: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(packed / "nih/Data_Entry_2017_v2020.csv", index_col=False)
    labels[["Image Index", "Finding Labels"]].to_csv(tmp_path / "two.csv", index=False)
    before = current_table(shards)
    result = relabel(shards, tmp_path / "two.csv")
    assert result.kept == ("follow_up", "age", "sex", "view")
    assert str(result) == (
        "table-2.csv: 0 of 40 images changed\n  not in the new labels, kept as they were: follow_up, age, sex, view"
    )
    pd.testing.assert_frame_equal(current_table(shards), before)


def test_every_changed_byte_of_both_tables_is_found(shards: Path, new_labels: Path) -> None:
    relabel(shards, new_labels)
    assert "39 images" in check(shards)
    for name in ("table.csv", "table-2.csv"):
        whole = (shards / name).read_bytes()
        for place in range(0, len(whole), 97):
            (shards / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(UserError, match=f"{name}: damaged"):
                check(shards)
        (shards / name).unlink()
        with pytest.raises(UserError, match=f"{name}: missing"):
            check(shards)
        (shards / name).write_bytes(whole)


def test_packing_again_does_not_undo_the_labels(packed: Path, shards: Path, new_labels: Path) -> None:
    relabel(shards, new_labels)
    before = folder_bytes(shards)
    old = packed / "nih/Data_Entry_2017_v2020.csv"
    pack(shards, "nih", [packed / "nih/images"], old, ["patient"], size=16, max_rejects=1, progress=False)
    assert folder_bytes(shards) == before


@pytest.mark.parametrize("rename", range(4), ids=["before the table", "after it", "before the manifest", "after it "])
def test_killed_at_any_moment_the_shards_have_one_of_both_tables(
    shards: Path, new_labels: Path, rename: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace
    num_renamed = 0

    def replace_and_die(self: Path, target: Path) -> Path:
        nonlocal num_renamed
        if rename == 2 * num_renamed:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(self, target)
        if rename == 2 * num_renamed + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        num_renamed += 1
        return target

    monkeypatch.setattr(Path, "replace", replace_and_die)
    process = get_context("fork").Process(target=relabel, args=(shards, new_labels))
    process.start()
    process.join()
    monkeypatch.undo()
    assert process.exitcode == -signal.SIGKILL
    check(shards)
    assert read_manifest(shards).table == ("table-2.csv" if rename == 3 else "table.csv")
    relabel(shards, new_labels)
    check(shards)
    assert current_table(shards).set_index("image_id").loc[CHANGED, "Fibrosis"] == 1


def test_images_without_new_labels_are_counted_and_named(shards: Path, new_labels: Path) -> None:
    lines = new_labels.read_text().splitlines()
    gone = {image_name(1, 0), image_name(2, 1)}
    new_labels.write_text("\n".join(line for line in lines if line[:16] not in gone))
    before = folder_bytes(shards)
    with pytest.raises(UserError, match=rf"new.csv: no labels for 2 of 39 packed images \({image_name(1, 0)}, "):
        relabel(shards, new_labels)
    assert folder_bytes(shards) == before


def test_a_rejected_image_needs_no_labels(shards: Path, new_labels: Path) -> None:
    lines = new_labels.read_text().splitlines()
    new_labels.write_text("\n".join(line for line in lines if not line.startswith(image_name(3, 0))))
    relabel(shards, new_labels)
    check(shards)


def test_images_that_are_not_packed_are_left_out(shards: Path, new_labels: Path) -> None:
    with new_labels.open("a") as file:
        file.write(f"{image_name(90, 0)},Hernia,0,90,44,F,PA,2500,2048,0.171,0.171\n")
    assert relabel(shards, new_labels).num_images == 40


def test_another_patient_is_an_error(shards: Path, tmp_path: Path, new_labels: Path) -> None:
    row = f"{image_name(1, 1)},"
    text = new_labels.read_text()
    new_labels.write_text(re.sub(rf"({row}[^,]*,1),1,", r"\1,777,", text))
    with pytest.raises(UserError, match=rf"image {image_name(1, 1)} is of patient 777, in the shards of 1 \(1 such"):
        relabel(shards, new_labels)


def test_a_table_that_is_none_is_one_clear_line(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(HEADER + f"{image_name(1, 0)},Nonsense,0,1,44,F,PA,1,1,1,1\n")
    with pytest.raises(UserError, match="unknown finding 'Nonsense'"):
        relabel(shards, tmp_path / "bad.csv")


def test_chexperts_uncertain_and_blank_labels_stay_what_they_are(tmp_path: Path) -> None:
    def write(name: str, *rows: str) -> Path:
        header = ",".join(("Path", "Sex", "Age", "AP/PA", *CHEXPERT_FINDINGS))
        images = (f"CheXpert-v1.0-small/train/patient0000{n}/study1/view1_frontal.jpg" for n in range(len(rows)))
        lines = [f"{image},Male,50,AP,{row}" for image, row in zip(images, rows, strict=True)]
        (tmp_path / name).write_text("\n".join((header, *lines)) + "\n")
        return tmp_path / name

    num_others = len(CHEXPERT_FINDINGS) - 3
    old = write("old.csv", "1,-1,," + "0," * (num_others - 1) + "0", "0,,1," + "," * (num_others - 1))
    new = write("new.csv", "-1,-1,0," + "0," * (num_others - 1) + "0", "1,,1," + "," * (num_others - 1))
    write_shards_without_images("chexpert", read_chexpert_labels(old), tmp_path)
    result = relabel(tmp_path, new)
    assert result.changed == tuple(f"train/patient0000{n}/study1/view1_frontal.jpg" for n in (0, 1))
    assert result.changes.iloc[:3].to_numpy().tolist() == [
        ["Enlarged Cardiomediastinum", 1, 1, 0],
        ["Cardiomegaly", 0, 0, 0],
        ["Lung Opacity", 0, 0, 1],
    ]
    assert "Lung Opacity +0 -0 other 1" in str(result)
    labels = current_table(tmp_path)[list(CHEXPERT_FINDINGS[:3])].to_numpy()
    np.testing.assert_array_equal(labels, [[-1, -1, 0], [1, np.nan, 1]])


def test_a_damaged_table_is_not_taken_over(shards: Path, new_labels: Path) -> None:
    text = (shards / "table.csv").read_text()
    (shards / "table.csv").write_text(text.replace(",train,", ",test,", 1))
    with pytest.raises(UserError, match="table.csv: damaged"):
        relabel(shards, new_labels)


labels = st.sampled_from([0.0, 1.0, -1.0, np.nan])


@given(st.lists(st.tuples(labels, labels, labels, labels), min_size=1, max_size=30))
def test_changes_are_counted_as_by_hand(pairs: list[tuple[float, float, float, float]]) -> None:
    names = [f"{number}.png" for number in range(len(pairs))]
    old = pd.DataFrame({"image_id": names, "A": [pair[0] for pair in pairs], "B": [pair[1] for pair in pairs]})
    new = pd.DataFrame({"image_id": names, "A": [pair[2] for pair in pairs], "B": [pair[3] for pair in pairs]})
    changed = [
        name for name, (a, b, c, d) in zip(names, pairs, strict=True) if not (str(a) == str(c) and str(b) == str(d))
    ]
    assert list(changed_images(old, new, ("A", "B"))) == changed
    counts = count_changes(old, new, ("A", "B")).set_index("finding")
    for finding, before, after in (("A", 0, 2), ("B", 1, 3)):
        steps = [(pair[before], pair[after]) for pair in pairs if str(pair[before]) != str(pair[after])]
        added = sum(step[1] == 1 for step in steps)
        removed = sum(step[0] == 1 for step in steps)
        assert counts.loc[finding].tolist() == [added, removed, len(steps) - added - removed]


@pytest.mark.real
def test_the_labels_of_2017_and_2020_differ_in_181_images(nih: Path, tmp_path: Path) -> None:
    new = read_nih_labels(nih / "Data_Entry_2017_v2020.csv.gz")
    manifest = write_shards_without_images("nih", new, tmp_path)
    result = relabel(tmp_path, nih / "labels_2017.csv.gz")
    assert (result.num_images, len(result.changed)) == (112_120, 181)
    assert result.kept == ("follow_up", "age", "sex", "view")
    removed = result.changes.set_index("finding")
    assert removed.loc[["Pneumonia", "Mass"], "removed"].tolist() == [78, 36]
    assert (removed["added"] == 0).all()
    back = relabel(tmp_path, nih / "Data_Entry_2017_v2020.csv.gz")
    assert back.changed == result.changed
    assert (back.changes["added"] == result.changes["removed"]).all()
    assert (tmp_path / "table-3.csv").read_bytes() == (tmp_path / manifest.table).read_bytes()


def write_shards_without_images(dataset: str, labels: pd.DataFrame, folder: Path) -> Manifest:
    findings = DATASETS[dataset].findings
    table = make_study_table(labels.assign(path=labels["image_id"], fold="train"), findings)
    write_table(table, folder / "table.csv")
    manifest = Manifest(
        dataset=dataset,
        findings=findings,
        codec="raw",
        quality=None,
        size=224,
        table="table.csv",
        table_sha256=sha256_of(folder / "table.csv"),
        labels={"file": "v2020.csv", "sha256": ""},
        split={},
        images={},
        counts={"train": len(table), "val": 0, "test": 0},
        num_rejected=0,
        seed=0,
        plan_sha256="",
        shards=(),
    )
    write_manifest(manifest, folder)
    return manifest
