import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from memory_loader import FINDINGS
from ranks import linear_gradient, loaders, step_losses

from chexnet_fast import distributed
from chexnet_fast.metrics import auc_table, mean_auc
from chexnet_fast.model import build_model
from chexnet_fast.predict import predict
from chexnet_fast.trainlog import read_train_log
from shards.errors import UserError


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What as many ranks wrote, each with a part of the same global batches."""
    out = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("ranks.py")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(request.param), str(script)]
    ended = subprocess.run(
        [sys.executable, *command, str(out)], capture_output=True, text=True, check=False, timeout=400
    )
    assert ended.returncode == 0, ended.stderr
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process computes of the whole batches."""
    loader = loaders(rank=0, num_ranks=1)[0]
    out = tmp_path_factory.mktemp("alone")
    return {"gradient": linear_gradient(loader), "own": step_losses(loader, out, sync_batch_norm=False)}


def test_gradient_does_not_depend_on_how_ranks_share_images_and_unknown_labels(
    ranks: Path, alone: dict[str, Any]
) -> None:
    results = torch.load(ranks / "results.pt", weights_only=True)
    assert torch.allclose(results["gradient"], alone["gradient"], rtol=1e-5, atol=1e-7)


def test_with_synced_batch_norm_the_loss_does_not_depend_on_the_number_of_ranks(
    ranks: Path, alone: dict[str, Any]
) -> None:
    """One, two and four ranks: equal but for rounding, which training amplifies from step to step.

    With batch norm of each rank's own images the first losses differ by 1 to 4 percent.
    """
    results = torch.load(ranks / "results.pt", weights_only=True)
    (expected, expected_state), (synced, synced_state) = alone["own"], results["synced"]
    first, second, third = relative_differences(synced, expected)
    assert first < 1e-5 and second < 1e-3 and third < 1e-2
    for name, value in expected_state.items():
        torch.testing.assert_close(synced_state[name], value, rtol=1e-3, atol=1e-4, msg=name)
    assert relative_differences(results["own"][0], expected)[0] > 1e-3


def relative_differences(values: list[float], expected: list[float]) -> list[float]:
    return [abs(value / other - 1) for value, other in zip(values, expected, strict=True)]


def test_validation_over_ranks_is_that_of_one_process(ranks: Path) -> None:
    # last.safetensors holds what the last epoch's validation saw.
    log = read_train_log(ranks / "log_train.csv")
    assert log["epoch"].tolist() == [1, 2]
    model = build_model(FINDINGS, pretrained=False, weights=ranks / "last.safetensors")
    loader = loaders(rank=0, num_ranks=1)[1]
    predictions = predict(model, loader, loader.table(), FINDINGS, torch.device("cpu"))
    assert predictions.labels is not None
    loss = torch.nn.functional.binary_cross_entropy(
        torch.from_numpy(predictions.probabilities), torch.from_numpy(predictions.labels)
    )
    assert log["val_loss"].iloc[-1] == pytest.approx(float(loss), rel=1e-4)
    assert log["val_auc"].iloc[-1] == pytest.approx(mean_auc(auc_table(predictions)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_names_the_way_out() -> None:
    with pytest.raises(UserError, match="--device cpu"), distributed.process_group("cuda"):
        pass


DEATH_OF_A_RANK = """
import os, signal
from chexnet_fast import distributed
from shards.errors import UserError
try:
    with distributed.process_group("cpu"):
        distributed.largest_over_ranks(0)
        if distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.largest_over_ranks(0)
except UserError as error:
    print(error)
"""


def test_a_rank_that_dies_ends_the_others_with_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", DEATH_OF_A_RANK],
            env={**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, -9]
    assert said[0].startswith("rank 0 lost another rank") and "--resume" in said[0] and said[0].count("\n") == 1
