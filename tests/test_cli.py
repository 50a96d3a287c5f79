"""The whole way through the real command line, and what it says to bad input."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_nih import write_nih
from torch import nn
from torchvision.models import densenet121

from chexnet_fast import cli
from shards.findings import NIH_FINDINGS
from shards.fold import open_fold
from shards.manifest import read_manifest
from shards.policy import LabelPolicy


def run(*arguments: object) -> int:
    """Run a command in this process; return its exit status."""
    before, sys.argv = sys.argv, ["chexnet-fast", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def expect_error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must end with status 2; return its last line on standard error, the error's only one."""
    capsys.readouterr()
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.startswith("chexnet-fast: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("chexnet-fast: ")
    return lines[-1]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Images, labels and packed shards of 64 pixels, for commands that only have to fail."""
    folder = tmp_path_factory.mktemp("tiny")
    images, labels = write_nih(folder)
    assert (
        run("pack", folder / "shards", "--images", images, "--labels", labels, "--split", "patient", "--size", 64) == 0
    )
    return folder


@pytest.fixture(scope="module")
def way(tmp_path_factory) -> Path:
    """Everything from phantoms to the evaluation of a trained run, made by the commands."""
    folder = tmp_path_factory.mktemp("way")
    phantoms, shards, trained = folder / "phantoms", folder / "shards", folder / "run"
    labels = phantoms / "Data_Entry_2017_v2020.csv"
    on_cpu = ("--device", "cpu", "--batch-size", 16)
    assert run("phantom", phantoms, "--images", 80, "--size", 128, "--enrich", 3) == 0
    lists = (phantoms / "train_val_list.txt", phantoms / "test_list.txt")
    images = phantoms / "images"
    assert run("pack", shards, "--images", images, "--labels", labels, "--split", *lists, "--size", 64) == 0
    assert run("verify", shards, "--decode") == 0
    assert run("train", shards, trained, "--no-pretrained", "--epochs", 2, "--size", 64, *on_cpu) == 0
    assert run("evaluate", trained, shards, "--out", folder / "evaluation", *on_cpu) == 0
    return folder


def test_training_leaves_its_config_its_log_and_both_checkpoints(way):
    names = {path.name for path in (way / "run").iterdir()}
    assert names == {
        "config.json",
        "log_train.csv",
        "best.safetensors",
        "last.safetensors",
        "state.pt",
        "tensorboard",
        "train_patients.txt",
    }
    log = pd.read_csv(way / "run" / "log_train.csv")
    assert list(log.columns) == ["epoch", "train_loss", "val_loss", "val_auc", "lr", "images_per_second", "data_wait"]
    assert log["epoch"].tolist() == [1, 2]
    assert log["train_loss"].iloc[1] < log["train_loss"].iloc[0]
    config = json.loads((way / "run" / "config.json").read_text())
    assert config["config"]["recipe"] == "reference"
    assert config["config"]["lr"] == 0.01


def test_evaluation_predicts_each_test_image_once_and_reports(way):
    out = way / "evaluation"
    predictions = pd.read_csv(out / "preds.csv")
    table = pd.read_csv(way / "shards" / "table.csv", dtype={"patient_id": str})
    assert predictions["Image Index"].tolist() == table.loc[table["fold"] == "test", "image_id"].tolist()
    assert list(predictions.columns)[1:] == [f"prob_{finding}" for finding in NIH_FINDINGS]
    assert pd.read_csv(out / "aucs.csv")["label"].tolist() == list(NIH_FINDINGS)
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4 + 1
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "Cardiomegaly" in page


def test_saved_predictions_score_like_the_evaluation(way, tmp_path):
    labels = way / "phantoms" / "Data_Entry_2017_v2020.csv"
    assert run("score", way / "evaluation" / "preds.csv", "--labels", labels, "--out", tmp_path) == 0
    assert (tmp_path / "aucs.csv").read_bytes() == (way / "evaluation" / "aucs.csv").read_bytes()


def test_heatmaps_and_curves_are_pictures(way, tmp_path):
    phantoms = way / "phantoms"
    boxes = pd.read_csv(phantoms / "BBox_List_2017.csv")
    finding = boxes["Finding Label"].replace("Infiltrate", "Infiltration").iloc[0]
    image = phantoms / "images" / boxes["Image Index"].iloc[0]
    known = ("--boxes", phantoms / "BBox_List_2017.csv", "--labels", phantoms / "Data_Entry_2017_v2020.csv")
    assert run("heatmap", way / "run", "--images", image, "--finding", finding, "--out", tmp_path, *known) == 0
    assert Image.open(tmp_path / f"{image.stem}-{finding}.png").width > 800
    assert run("plot", way / "run", "--out", tmp_path / "curves.png") == 0
    assert Image.open(tmp_path / "curves.png").width > 800


def test_bench_loaders_writes_its_rows_with_their_environment(way, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.loaders.NUM_ROUNDS", 2)
    monkeypatch.setattr("bench.cases.EPOCH_IMAGES", 2048)
    monkeypatch.setattr("bench.cases.RESIDENT_IMAGES", 256)
    monkeypatch.setattr("bench.cases.LIMIT_BYTES", 1 << 20)
    images = ("--images", way / "phantoms" / "images")
    assert run("bench", "loaders", *images, "--shards", way / "shards", "--out", tmp_path, "--seconds", 0.02) == 0
    rows = [json.loads(line) for line in (tmp_path / "loaders.jsonl").read_text().splitlines()]
    assert rows[0]["ratio"] == 1
    assert all(row["rate"]["low"] <= row["rate"]["median"] <= row["rate"]["high"] for row in rows)
    assert {"versions", "machine"} <= set(rows[0]["environment"])
    assert (tmp_path / "loaders.md").read_text().count("\n") == len(rows) + 2


def test_help_imports_nothing_heavy_and_every_command_shows_an_example():
    chexnet_fast = [sys.executable, "-m", "chexnet_fast"]
    subprocess.run([*chexnet_fast, "--help"], check=True, capture_output=True)
    loaded = "import sys, chexnet_fast.cli; print({'torch', 'pandas', 'numpy', 'nvidia'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout.strip() == "set()"
    for command in (
        ["demo"],
        ["phantom"],
        ["pack"],
        ["download"],
        ["verify"],
        ["relabel"],
        ["explore"],
        ["train"],
        ["evaluate"],
        ["score"],
        ["heatmap"],
        ["plot"],
        ["import-weights"],
        ["export"],
        ["bench", "loaders"],
        ["bench", "pack"],
        ["bench", "codecs"],
    ):
        shown = subprocess.run([*chexnet_fast, *command, "--help"], check=True, capture_output=True, text=True).stdout
        assert f"Example: chexnet-fast {' '.join(command)}" in shown


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


def test_other_findings_than_the_checkpoints_are_refused(way, tmp_path, capsys):
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    for file in (way / "run").iterdir():
        if file.is_file():
            (run_folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((run_folder / "config.json").read_text())
    config["findings"] = config["findings"][::-1]
    (run_folder / "config.json").write_text(json.dumps(config))
    error = expect_error(capsys, "evaluate", run_folder, way / "shards", "--out", tmp_path / "out", "--device", "cpu")
    assert "predicts Atelectasis" in error or "predicts Hernia" in error


def test_a_fold_with_patients_of_the_training_is_refused(way, tmp_path, capsys):
    phantoms, shards = way / "phantoms", tmp_path / "shards"
    images, labels = phantoms / "images", phantoms / "Data_Entry_2017_v2020.csv"
    assert run("pack", shards, "--images", images, "--labels", labels, "--split", "patient", "--size", 64) == 0
    error = expect_error(capsys, "evaluate", way / "run", shards, "--out", tmp_path / "out", "--device", "cpu")
    trained_on = set((way / "run" / "train_patients.txt").read_text().split())
    table = pd.read_csv(shards / "table.csv", dtype={"patient_id": str})
    patients = set(table.loc[table["fold"] == "test", "patient_id"])
    assert f"was trained on {len(trained_on & patients)} of the {len(patients)} patients of the test fold" in error
    assert sorted(trained_on & patients)[0] in error
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_the_reference_is_imported_and_evaluated(way, tmp_path, capsys):
    model = densenet121(weights=None)
    model.classifier = nn.Sequential(nn.Linear(1024, 14), nn.Sigmoid())
    torch.save({"model": model, "epoch": 3}, tmp_path / "checkpoint")
    assert run("import-weights", tmp_path / "checkpoint", tmp_path / "run") == 0
    small = tmp_path / "run" / "config.json"
    small.write_text(small.read_text().replace('"size": 224', '"size": 64'))
    assert run("evaluate", tmp_path / "run", way / "shards", "--out", tmp_path / "out", "--device", "cpu") == 0
    assert "does not know its training patients" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").exists()


def test_a_run_is_scored_with_the_labels_and_weights_that_it_was_trained_with(tmp_path):
    images, shards, trained, out = (tmp_path / name for name in ("images", "shards", "run", "out"))
    assert run("phantom", images, "--images", 60, "--size", 64, "--enrich", 3, "--layout", "chexpert") == 0
    assert run("pack", shards, "--images", images, "--labels", images, "--split", "patient", "--size", 64) == 0
    on_cpu = ("--device", "cpu", "--batch-size", 16)
    labels = ("--uncertain", "ones", "Edema=zeros", "--blank", "ignore", "--class-weights", "balanced")
    assert run("train", shards, trained, "--no-pretrained", "--epochs", 1, "--size", 64, *labels, *on_cpu) == 0
    assert run("evaluate", trained, shards, "--out", out, "--fold", "val", *on_cpu) == 0

    manifest = read_manifest(shards)
    policy = LabelPolicy("ones", "ignore", {"Edema": "zeros"})
    train, val = (open_fold(shards, manifest, fold, policy).labels for fold in ("train", "val"))
    assert pd.read_csv(out / "metrics.csv")["num_positive"].tolist() == (val == 1).sum(axis=0).tolist()
    own_policy = open_fold(shards, manifest, "val").labels
    assert (val == 1).sum() > (own_policy == 1).sum()

    probabilities = pd.read_csv(out / "preds.csv").iloc[:, 1:].to_numpy()
    positives, negatives = ((train == label).sum(axis=0) / (train >= 0).sum(axis=0) for label in (1, 0))
    losses = np.where(val == 1, -negatives * np.log(probabilities), -positives * np.log(1 - probabilities))
    log = pd.read_csv(trained / "log_train.csv")
    assert log["val_loss"].item() == pytest.approx(losses[val >= 0].mean(), rel=1e-4)


def test_an_unknown_recipe_is_named(tiny, tmp_path, capsys):
    error = expect_error(capsys, "train", tiny / "shards", tmp_path / "run", "--recipe", "best")
    assert "--recipe best: choose one of reference" in error


@pytest.mark.real
def test_saved_reference_predictions_give_the_published_aucs_to_the_last_bit(nih, tmp_path):
    predictions, labels = nih / "reference" / "preds.csv.gz", nih / "Data_Entry_2017_v2020.csv.gz"
    assert run("score", predictions, "--labels", labels, "--out", tmp_path) == 0
    assert (tmp_path / "aucs.csv").read_bytes() == (nih / "reference" / "aucs.csv").read_bytes()


@pytest.mark.real
@pytest.mark.slow
def test_the_real_way_at_small_scale(nih, tmp_path, capsys):
    shards, trained = tmp_path / "nih", tmp_path / "run"
    labels = nih / "Data_Entry_2017_v2020.csv.gz"
    pack = ("pack", shards, "--dataset", "nih", "--images", nih / "images", "--labels", labels)
    assert run(*pack, "--split", "patient", "--size", 64) == 0
    assert "200 of 112,120 labelled images found" in capsys.readouterr().err
    assert read_manifest(shards).images["num_found"] == 200
    assert run("verify", shards) == 0
    on_cpu = ("--device", "cpu", "--batch-size", 16)
    assert run("train", shards, trained, "--no-pretrained", "--epochs", 2, "--size", 64, *on_cpu) == 0
    assert run("evaluate", trained, shards, "--out", tmp_path / "evaluation", *on_cpu) == 0
    image = nih / "images" / "00000100_000.png"
    assert run("heatmap", trained, "--images", image, "--finding", "Effusion", "--out", tmp_path / "maps") == 0
    assert np.array(Image.open(tmp_path / "maps" / "00000100_000-Effusion.png")).std() > 10


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
