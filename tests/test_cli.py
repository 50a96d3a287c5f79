"""The whole way through the real command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import expect_error, run
from PIL import Image
from torch import nn
from torchvision.models import densenet121

from chexnet_fast.amp import amp_dtype, amp_name
from shards.findings import NIH_FINDINGS
from shards.fold import open_fold
from shards.manifest import read_manifest
from shards.policy import LabelPolicy


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
    assert config["config"]["amp"] == amp_name(amp_dtype("auto", torch.device("cpu")))


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
        ["bench", "training"],
        ["bench", "jpeg"],
        ["bench", "quality"],
    ):
        shown = subprocess.run([*chexnet_fast, *command, "--help"], check=True, capture_output=True, text=True).stdout
        assert f"Example: chexnet-fast {' '.join(command)}" in shown


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
    training = ("--no-pretrained", "--epochs", 1, "--size", 64, "--amp", "float32", *labels, *on_cpu)
    assert run("train", shards, trained, *training) == 0
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
