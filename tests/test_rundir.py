import dataclasses
import json
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from chexnet_fast.config import TrainConfig, reference
from chexnet_fast.rundir import (
    RunDir,
    check_run,
    describe_data,
    describe_run,
    load_state,
    read_description,
    read_train_patients,
    save_state,
    start_run,
    write_log,
)
from chexnet_fast.trainlog import LOG_COLUMNS, read_train_log
from shards.errors import UserError
from shards.manifest import Manifest
from shards.policy import LabelPolicy

PATIENTS = ["7", "12", "7"]


def description(**overrides: Any) -> dict[str, Any]:
    manifest = Manifest(
        dataset="nih",
        findings=("Mass", "Nodule"),
        codec="raw",
        quality=None,
        size=224,
        table="table.csv",
        table_sha256="0" * 64,
        labels={},
        split={},
        images={},
        counts={},
        num_rejected=0,
        seed=0,
        plan_sha256="0" * 64,
        shards=(),
    )
    table = pd.DataFrame({"fold": ["train", "train", "val"], "Mass": [1, 0, 0], "Nodule": [np.nan, 1, 0]})
    data = describe_data(Path("build/nih"), manifest, table, LabelPolicy(), 224)
    return describe_run(dataclasses.asdict(dataclasses.replace(reference(), **overrides)), manifest.findings, data)


def test_config_json_gives_the_complete_config_back(tmp_path: Path) -> None:
    start_run(tmp_path / "run", description(lr=0.02, uncertain=("ones", "Mass=zeros")), PATIENTS)
    stored = read_description(tmp_path / "run")
    assert stored["config"].pop("uncertain") == ["ones", "Mass=zeros"]
    assert TrainConfig(**stored["config"]) == dataclasses.replace(reference(), lr=0.02)
    assert stored["findings"] == ["Mass", "Nodule"]
    assert stored["data"]["prevalence"] == {"Mass": 0.5, "Nodule": 1.0}
    assert LabelPolicy(**stored["data"]["policy"]) == LabelPolicy()
    assert stored["environment"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert stored["environment"]["machine"]["num_cores"] >= 1
    assert stored["command"]


def test_prevalence_follows_the_policy_and_is_null_where_nothing_is_known(tmp_path: Path) -> None:
    table = pd.DataFrame({"fold": ["train"] * 4 + ["val"], "Mass": [1, 0, -1, np.nan, 1], "Nodule": [np.nan] * 5})
    manifest = SimpleNamespace(findings=("Mass", "Nodule"), dataset="chexpert", table_sha256="0" * 64)
    for policy, expected in (
        (LabelPolicy(), {"Mass": 1 / 2, "Nodule": None}),
        (LabelPolicy("ones"), {"Mass": 2 / 3, "Nodule": None}),
        (LabelPolicy("ones", "zeros"), {"Mass": 2 / 4, "Nodule": 0.0}),
    ):
        assert describe_data(tmp_path, manifest, table, policy, 224)["prevalence"] == expected


def test_patients_of_the_training_fold_are_kept_once_each(tmp_path: Path) -> None:
    start_run(tmp_path / "known", description(), PATIENTS)
    start_run(tmp_path / "unknown", description(), None)
    assert RunDir(tmp_path / "known").train_patients.read_text() == "12\n7\n"
    assert read_train_patients(tmp_path / "known") == {"7", "12"}
    assert read_train_patients(tmp_path / "unknown") is None


def test_a_run_is_not_begun_twice_without_resume(tmp_path: Path) -> None:
    check_run(tmp_path, description(), resume=False)
    start_run(tmp_path, description(), PATIENTS)
    check_run(tmp_path, description(), resume=True)
    with pytest.raises(UserError, match="--resume"):
        check_run(tmp_path, description(), resume=False)


def test_resuming_under_another_config_says_what_differs(tmp_path: Path) -> None:
    start_run(tmp_path, description(), PATIENTS)
    with pytest.raises(UserError, match=r"lr was 0\.01, is now 0\.02; seed was 0, is now 5"):
        check_run(tmp_path, description(lr=0.02, seed=5), resume=True)


@pytest.mark.parametrize("key", ["findings", "data"])
def test_resuming_on_other_data_is_refused(tmp_path: Path, key: str) -> None:
    start_run(tmp_path, description(), PATIENTS)
    other = description()
    other[key] = ["Hernia"] if key == "findings" else {**other[key], "table_sha256": "1" * 64}
    with pytest.raises(UserError, match="another config"):
        check_run(tmp_path, other, resume=True)


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_damaged_config_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        check_run(tmp_path, description(), resume=True)


def test_the_first_config_json_stays(tmp_path: Path) -> None:
    start_run(tmp_path, description(), PATIENTS)
    before = json.loads((tmp_path / "config.json").read_text())
    start_run(tmp_path, {**description(), "command": ["another"]}, ["8"])
    assert json.loads((tmp_path / "config.json").read_text()) == before
    assert read_train_patients(tmp_path) == {"7", "12"}


def test_state_comes_back_and_nothing_else_does(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert load_state(run) is None
    save_state(run, {"model": {"weight": torch.arange(3)}, "progress": {"log": [{"epoch": 1}]}})
    state = load_state(run)
    assert state is not None
    assert state["model"]["weight"].tolist() == [0, 1, 2]
    assert state["progress"] == {"log": [{"epoch": 1}]}


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    save_state(run, {"weight": torch.zeros(1000)})
    run.state.write_bytes(run.state.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"state\.pt"):
        load_state(run)


def test_a_full_disk_keeps_the_older_state(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    save_state(run, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(UserError, match=r"state\.pt.*make room"):
            save_state(run, {"step": 2, "weight": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_state(run) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_log_numbers_read_back_exactly(tmp_path: Path) -> None:
    row = {"epoch": 1, "train_loss": 0.1 + 0.2, "val_loss": 1 / 3, "val_auc": float("nan"), "lr": 1e-5}
    write_log(RunDir(tmp_path), [{**row, "images_per_second": 2e5 / 3, "data_wait": 0.0}])
    log = read_train_log(tmp_path / "log_train.csv")
    assert tuple(log.columns) == LOG_COLUMNS
    assert log.loc[0, ["train_loss", "val_loss", "lr"]].tolist() == [0.1 + 0.2, 1 / 3, 1e-5]
    assert np.isnan(log["val_auc"][0])
