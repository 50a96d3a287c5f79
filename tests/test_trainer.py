import dataclasses
import errno
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from memory_loader import FINDINGS, MemoryLoader

from chexnet_fast.config import TrainConfig, reference
from chexnet_fast.model import build_model
from chexnet_fast.rundir import RunDir
from chexnet_fast.trainer import train
from chexnet_fast.trainlog import LOG_COLUMNS, read_train_log
from chexnet_fast.weights import load_weights
from pipelines.batch import Batch
from shards.errors import UserError

CONFIG = dataclasses.replace(reference(), epochs=2, batch_size=8, size=32, device="cpu")
TIMINGS = ["images_per_second", "data_wait"]


def run(
    folder: Path, config: TrainConfig = CONFIG, on_batch: Callable[[int, int, Batch], Batch] = lambda e, b, batch: batch
) -> RunDir:
    """Train on 44 images and validate on 10; `on_batch` sees each training batch with its epoch and number."""

    class Watched(MemoryLoader):
        def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
            for number, batch in enumerate(super().epoch(index, first_batch), first_batch):
                yield on_batch(index, number, batch)

    folder.mkdir(exist_ok=True)
    torch.manual_seed(config.seed)
    val_loader = MemoryLoader(10, 4, seed=1, shuffle=False, first_row=44)
    train(
        config,
        build_model(FINDINGS, pretrained=False),
        Watched(44, 8),
        val_loader,
        val_loader.table(),
        FINDINGS,
        RunDir(folder),
        torch.device("cpu"),
    )
    return RunDir(folder)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return run(tmp_path_factory.mktemp("uninterrupted"))


def assert_same_run(one: RunDir, other: RunDir) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes()
    logs = [read_train_log(each.log).drop(columns=TIMINGS) for each in (one, other)]
    assert logs[0].equals(logs[1])


def test_run_leaves_log_curves_and_loadable_weights(uninterrupted: RunDir) -> None:
    log = read_train_log(uninterrupted.log)
    assert tuple(log.columns) == LOG_COLUMNS
    assert log["epoch"].tolist() == [1, 2]
    assert log["lr"][0] == 0.01
    assert log[["data_wait"]].to_numpy().min() >= 0 and log[["data_wait"]].to_numpy().max() <= 1
    assert list(uninterrupted.tensorboard.iterdir())
    load_weights(build_model(FINDINGS, pretrained=False), uninterrupted.best, FINDINGS)
    assert not list(uninterrupted.path.glob("tmp-*"))


def test_same_seed_gives_the_same_bits(uninterrupted: RunDir, tmp_path: Path) -> None:
    assert_same_run(uninterrupted, run(tmp_path))


def test_learns_what_can_be_learned(tmp_path: Path) -> None:
    train_loader = MemoryLoader(64, 16, size=64)
    val_loader = MemoryLoader(32, 16, size=64, seed=1, shuffle=False, first_row=64)
    torch.manual_seed(0)
    train(
        dataclasses.replace(CONFIG, epochs=4, lr_patience=4),
        build_model(FINDINGS, pretrained=False),
        train_loader,
        val_loader,
        val_loader.table(),
        FINDINGS,
        RunDir(tmp_path),
        torch.device("cpu"),
    )
    assert read_train_log(RunDir(tmp_path).log)["val_auc"].max() > 0.95


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_in_mid_epoch_is_answered_and_resumed_to_the_same_bits(
    uninterrupted: RunDir,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    def interrupt(epoch: int, batch_number: int, batch: Batch) -> Batch:
        if (epoch, batch_number) == (1, 2):
            os.kill(os.getpid(), number)
        return batch

    monkeypatch.setattr(sys, "argv", ["chexnet-fast", "train", "shards", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, on_batch=interrupt)
    assert stop.value.code == 128 + number
    message = capsys.readouterr().err
    assert f"{number.name} in epoch 2, after step 3" in message
    assert f"go on with: chexnet-fast train shards {tmp_path} --resume" in message
    trained = []
    run(tmp_path, on_batch=lambda epoch, batch_number, batch: trained.append((epoch, batch_number)) or batch)
    assert trained == [(1, 3), (1, 4), (1, 5)]
    assert_same_run(uninterrupted, RunDir(tmp_path))


def test_death_between_checkpoints_is_resumed_to_the_same_bits(uninterrupted: RunDir, tmp_path: Path) -> None:
    def die(epoch: int, batch_number: int, batch: Batch) -> Batch:
        if (epoch, batch_number) == (1, 3):
            raise KeyError("died")
        return batch

    with pytest.raises(KeyError):
        run(tmp_path, on_batch=die)
    assert_same_run(uninterrupted, run(tmp_path))


def test_a_full_disk_is_one_line_and_the_run_goes_on_from_the_checkpoint_before(
    uninterrupted: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill_disk(epoch: int, batch_number: int, batch: Batch) -> Batch:
        if (epoch, batch_number) == (1, 3):
            monkeypatch.setattr(os, "fsync", full)
        return batch

    with pytest.raises(UserError, match=r"last\.safetensors: No space left on device; make room"):
        run(tmp_path, on_batch=fill_disk)
    monkeypatch.undo()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["progress"]["plateau"]["epoch"] == 1
    assert not list(tmp_path.glob("tmp-*"))
    assert_same_run(uninterrupted, run(tmp_path))


def test_warm_up_and_cosine_are_resumed_to_the_same_bits(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, schedule="cosine", warmup_epochs=0.5, optimizer="adamw", lr=1e-3)

    def die(epoch: int, batch_number: int, batch: Batch) -> Batch:
        if (epoch, batch_number) == (0, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    with pytest.raises(SystemExit):
        run(tmp_path / "died", config, die)
    assert_same_run(run(tmp_path / "whole", config), run(tmp_path / "died", config))
    rates = read_train_log(RunDir(tmp_path / "whole").log)["lr"]
    assert 0 < rates[1] < rates[0] < 1e-3


def test_resuming_a_finished_run_trains_no_more(uninterrupted: RunDir) -> None:
    before = uninterrupted.state.read_bytes()
    run(uninterrupted.path)
    assert uninterrupted.state.read_bytes() == before


def test_loss_that_is_not_finite_stops_with_epoch_step_and_rows(tmp_path: Path) -> None:
    poisoned_rows = []

    def poison(epoch: int, batch_number: int, batch: Batch) -> Batch:
        if (epoch, batch_number) != (1, 4):
            return batch
        poisoned_rows.extend(batch.rows.tolist())
        images = torch.full((len(batch.rows), 3, 32, 32), math.nan)
        return dataclasses.replace(batch, images=images)

    with pytest.raises(UserError) as error:
        run(tmp_path, on_batch=poison)
    assert "not finite, epoch 2, step 5" in str(error.value)
    assert str(poisoned_rows) in str(error.value)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["progress"]["plateau"]["epoch"] == 1
    assert all(np.isfinite(value.numpy()).all() for value in state["model"].values())
