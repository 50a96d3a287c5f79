"""SyncNorm beside timm's batch norm, with one rank; tests/test_distributed.py has several."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import nn

from chexnet_fast.sync_norm import SyncNorm, synchronise_norms

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def small_net() -> nn.Module:
    torch.manual_seed(0)
    norm = BatchNormAct2d(8)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.Conv2d(8, 4, 3))


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("device", DEVICES)
def test_it_normalises_learns_and_remembers_as_batch_norm_does(device: str) -> None:
    plain = small_net().to(device)
    synced = copy.deepcopy(plain)
    synchronise_norms(synced)
    assert isinstance(synced[1], SyncNorm)
    assert list(synced.state_dict()) == list(plain.state_dict())
    images = torch.randn(5, 3, 12, 12, device=device) * 3 + 2
    for _ in range(3):
        outputs = [net(images) for net in (plain, synced)]
        torch.testing.assert_close(*outputs)
        for output in outputs:
            output.square().sum().backward()
    for ours, theirs in zip(synced.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(synced.state_dict(), plain.state_dict())
    torch.testing.assert_close(synced.eval()(images), plain.eval()(images))


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("device", DEVICES)
def test_it_keeps_the_arithmetic_that_it_is_given(device: str) -> None:
    synced = small_net().to(device)
    synchronise_norms(synced)
    with torch.autocast(device, torch.bfloat16):
        features = synced[:2](torch.randn(2, 3, 12, 12, device=device))
    features.sum().backward()
    assert features.dtype == torch.bfloat16
    assert all(weight.grad.dtype == torch.float32 for weight in synced[:2].parameters())


def test_one_process_keeps_the_batch_norm_that_it_has() -> None:
    net = small_net()
    synchronise_norms(net)
    assert isinstance(net[1], BatchNormAct2d)
