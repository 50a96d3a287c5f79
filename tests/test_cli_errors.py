"""What the command line says to bad input: one line that names the value and the mend."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from command_line import expect_error, run
from tiny_nih import write_nih

from shards.manifest import read_manifest


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Images, labels and packed shards of 64 pixels, for commands that only have to fail."""
    folder = tmp_path_factory.mktemp("tiny")
    images, labels = write_nih(folder)
    assert (
        run("pack", folder / "shards", "--images", images, "--labels", labels, "--split", "patient", "--size", 64) == 0
    )
    return folder


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"--images": "nowhere"}, "nowhere: no such folder"),
        ({"--labels": "nowhere.csv"}, "nowhere.csv: not a readable CSV table (No such file or directory)"),
        ({"--split": "nowhere.txt"}, "nowhere.txt"),
        ({"--size": 0}, "--size 0: give at least 1 pixel"),
        ({"--quality": 101}, "--quality 101: give 1 to 95"),
    ],
)
def test_pack_names_a_wrong_value_and_leaves_nothing(tiny, tmp_path, capsys, wrong, message):
    right = {"--images": tiny / "images", "--labels": tiny / "Data_Entry_2017_v2020.csv", "--split": "patient"}
    options = [part for pair in {**right, **wrong}.items() for part in pair]
    assert message in expect_error(capsys, "pack", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_a_truncated_png_is_named_or_listed(tmp_path, capsys):
    images, labels = write_nih(tmp_path)
    bad = sorted(images.iterdir())[3]
    bad.write_bytes(bad.read_bytes()[:-40])
    command = ("pack", tmp_path / "out", "--images", images, "--labels", labels, "--split", "patient", "--size", 24)
    error = expect_error(capsys, *command)
    assert bad.name in error and "--max-rejects" in error
    assert not (tmp_path / "out").exists()
    assert run(*command, "--max-rejects", 1) == 0
    assert pd.read_csv(tmp_path / "out" / "rejects.csv")["image_id"].tolist() == [bad.name]
    assert sum(read_manifest(tmp_path / "out").counts.values()) == 39


def test_unlabelled_images_are_counted_and_can_be_left_out(tiny, tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    lines = (tiny / "Data_Entry_2017_v2020.csv").read_text().splitlines(keepends=True)
    labels.write_text("".join(lines[:-2]))
    command = ("pack", tmp_path / "out", "--images", tiny / "images", "--labels", labels, "--split", "patient")
    error = expect_error(capsys, *command)
    assert "2 of 40" in error and "00000020_000.png" in error and "--allow-unlabelled" in error
    assert run(*command, "--allow-unlabelled", "--size", 24) == 0


def test_an_unknown_finding_is_named_with_its_image(tiny, tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    labels.write_text((tiny / "Data_Entry_2017_v2020.csv").read_text().replace("Hernia", "Hernai"))
    error = expect_error(
        capsys, "pack", tmp_path / "out", "--images", tiny / "images", "--labels", labels, "--split", "patient"
    )
    assert "Hernai" in error and ".png" in error and str(labels) in error


def test_training_needs_a_gpu_or_says_device_cpu(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    error = expect_error(capsys, "train", tiny / "shards", tmp_path / "run", "--no-pretrained", "--size", 64)
    assert "--device cpu" in error
    assert not (tmp_path / "run").exists()


def test_training_offline_names_both_ways_out(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = expect_error(capsys, "train", tiny / "shards", tmp_path / "run", "--device", "cpu", "--size", 64)
    assert "--weights" in error and "--no-pretrained" in error


def test_missing_dali_names_the_extras(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "pipelines.dali", raising=False)
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    error = expect_error(
        capsys, "train", tiny / "shards", tmp_path / "run", "--no-pretrained", "--device", "cpu", "--size", 64
    )
    assert "cuda110" in error and "--loader pil" in error


def test_missing_wandb_names_the_extra_and_leaves_nothing(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    on_cpu = ("--no-pretrained", "--device", "cpu", "--size", 64)
    error = expect_error(capsys, "train", tiny / "shards", tmp_path / "run", "--wandb", "chexnet", *on_cpu)
    assert "chexnet-fast[wandb]" in error
    assert not (tmp_path / "run").exists()


def test_shards_of_another_format_are_refused(tiny, tmp_path, capsys):
    shards = tmp_path / "shards"
    shards.mkdir()
    manifest = json.loads((tiny / "shards" / "manifest.json").read_text())
    (shards / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    assert "shard format 99" in expect_error(capsys, "verify", shards)


def test_an_unknown_recipe_is_named(tiny, tmp_path, capsys):
    error = expect_error(capsys, "train", tiny / "shards", tmp_path / "run", "--recipe", "best")
    assert "--recipe best: choose one of reference" in error


@pytest.mark.real
def test_an_empty_fold_is_named(nih, tmp_path, capsys):
    error = expect_error(
        capsys,
        "pack",
        tmp_path / "out",
        "--images",
        nih / "images",
        "--labels",
        nih / "Data_Entry_2017_v2020.csv.gz",
        "--split",
        nih / "reference_split.csv.gz",
    )
    assert "train" in error and "--split patient" in error
    assert not (tmp_path / "out").exists()
