"""Trainings that are killed, and go on as if nothing had been: the whole command, on tiny shards."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_nih import pack_tiny, write_nih

from chexnet_fast import cli, trainer
from chexnet_fast.trainlog import read_train_log

EPOCHS = 3
NUM_STEPS = EPOCHS * 7
"""Of 14 training images in batches of 2."""
NUM_KILLS = 5
TRAIN = f"--no-pretrained --device cpu --size 64 --epochs {EPOCHS} --batch-size 2 --num-threads 1".split()
TIMINGS = ["images_per_second", "data_wait"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    pack_tiny(folder / "shards", *write_nih(folder, num_patients=10), size=64)
    return folder / "shards"


def assert_same_run(one: Path, other: Path) -> None:
    assert (one / "last.safetensors").read_bytes() == (other / "last.safetensors").read_bytes()
    logs = [read_train_log(run / "log_train.csv").drop(columns=TIMINGS) for run in (one, other)]
    assert logs[0]["epoch"].tolist() == list(range(1, EPOCHS + 1))
    assert logs[0].equals(logs[1])


def start_two_ranks(shards: Path, run: Path, *options: str) -> subprocess.Popen[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    command = [*torchrun, "-m", "chexnet_fast", "train", str(shards), str(run), *TRAIN, "--resume"]
    # Else torch's restarted ranks may find the addresses of the dead ones (pytorch issue 135712).
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def kill_rank_after_epoch(torchrun: subprocess.Popen[str], rank: int, run: Path, epoch: int) -> None:
    log = run / "log_train.csv"
    while not log.exists() or read_train_log(log)["epoch"].iloc[-1] < epoch:
        assert torchrun.poll() is None
        time.sleep(0.02)
    for pid in Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split():
        if f"LOCAL_RANK={rank}" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
            os.kill(int(pid), signal.SIGKILL)
            return
    raise AssertionError(f"torchrun has no rank {rank}")


def our_errors(said: str) -> list[str]:
    """The error lines of our ranks, which came without a traceback; torchrun adds one of its own."""
    assert "/chexnet_fast/" not in said, said
    return [line for line in said.splitlines() if line.startswith("chexnet-fast: ")]


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_with_one_line_and_the_run_goes_on(shards: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = start_two_ranks(shards, whole)
    assert uninterrupted.wait(500) == 0

    first = start_two_ranks(shards, killed)
    kill_rank_after_epoch(first, 1, killed, epoch=1)
    said = first.communicate(timeout=500)[1]
    assert first.returncode != 0
    (line,) = our_errors(said)
    assert line.startswith("chexnet-fast: rank 0 lost another rank") and "--resume" in line

    # Torchrun starts the ranks once more by itself, rank 0 killed this time.
    second = start_two_ranks(shards, killed, "--max-restarts", "1")
    kill_rank_after_epoch(second, 0, killed, epoch=2)
    said = second.communicate(timeout=500)[1]
    assert second.returncode == 0, said
    (line,) = our_errors(said)
    assert line.startswith("chexnet-fast: rank 1 lost another rank")
    assert_same_run(whole, killed)


def start_alone(shards: Path, run: Path) -> BaseProcess:
    """Start a training that writes a checkpoint after every step; forked, it need not import torch again."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["chexnet_fast.launch"])
    process = forks.Process(target=train_alone, args=(shards, run))
    process.start()
    return process


def train_alone(shards: Path, run: Path) -> None:
    trainer.SETTLE_STEPS = 1
    torch.set_num_threads(1)
    options = [*TRAIN, "--checkpoint-minutes", "1e-9", "--resume"]
    sys.argv = ["chexnet-fast", "train", str(shards), str(run), *options]
    cli.main()


def wait_for_a_checkpoint(process: BaseProcess, state: Path) -> None:
    before = state.stat().st_mtime_ns if state.exists() else None
    while not state.exists() or state.stat().st_mtime_ns == before:
        assert process.is_alive()
        time.sleep(0.002)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(shards: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begin = time.perf_counter()
    uninterrupted = start_alone(shards, whole)
    uninterrupted.join()
    seconds_per_step = (time.perf_counter() - begin) / NUM_STEPS
    random = np.random.default_rng(0)
    for _ in range(NUM_KILLS):
        process = start_alone(shards, killed)
        wait_for_a_checkpoint(process, killed / "state.pt")
        time.sleep(random.uniform(0, 2 * seconds_per_step))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    last = start_alone(shards, killed)
    last.join()
    assert (uninterrupted.exitcode, last.exitcode) == (0, 0)
    assert_same_run(whole, killed)
    assert not list(killed.glob("tmp-*"))
