import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chexnet_fast.config import reference
from chexnet_fast.curves import Curves
from chexnet_fast.rundir import RunDir
from shards.errors import UserError

CONFIG = dataclasses.replace(reference(), wandb="chexnet")
ROWS = [{"epoch": epoch, "train_loss": 1 / epoch, "val_auc": 0.7} for epoch in (1, 2)]


class FakeWandb:
    """What Curves uses of wandb, noted down; `finished` stands for the end of a run."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(self, **settings: Any) -> SimpleNamespace:
        self.begun.append(settings)
        return SimpleNamespace(log=lambda row, step: self.logged.append((step, row)), finish=self.finish)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_gets_each_row_and_a_resumed_run_goes_on_in_it(wandb: FakeWandb, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    Curves(CONFIG, run, 1).add(ROWS[0])
    resumed = Curves(CONFIG, run, 2)
    resumed.add(ROWS[1])
    assert wandb.finished == 0
    resumed.close()
    assert (wandb.logged, wandb.finished) == ([(1, ROWS[0]), (2, ROWS[1])], 1)
    first, second = wandb.begun
    assert first == second
    assert (first["project"], first["name"], first["resume"]) == ("chexnet", "run", "allow")
    assert first["id"] == run.wandb_id.read_text() and len(first["id"]) == 16
    assert first["config"]["lr"] == 0.01


def test_two_folders_are_two_runs(wandb: FakeWandb, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Curves(CONFIG, RunDir(tmp_path / name), 1)
    assert wandb.begun[0]["id"] != wandb.begun[1]["id"]


def test_without_a_project_wandb_is_not_asked(wandb: FakeWandb, tmp_path: Path) -> None:
    curves = Curves(reference(), RunDir(tmp_path), 1)
    curves.add(ROWS[0])
    curves.close()
    assert not wandb.begun and not RunDir(tmp_path).wandb_id.exists()
    assert list(RunDir(tmp_path).tensorboard.iterdir())


def test_a_wandb_that_cannot_start_is_one_line(
    wandb: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**settings: Any) -> None:
        raise FakeWandb.Error("No API key\nconfigured.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match=r"^--wandb chexnet: No API key configured\.; run `wandb login`"):
        Curves(CONFIG, RunDir(tmp_path), 1)


def test_a_missing_wandb_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r'pip install "chexnet-fast\[wandb\]"'):
        Curves(CONFIG, RunDir(tmp_path), 1)
