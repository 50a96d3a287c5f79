"""Full batches run in the recorded way, others in the model's own; a recorded training is the eager one."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from chexnet_fast.model import build_model
from chexnet_fast.replay import ReplayedModel, check_compiler, record
from shards.errors import UserError

FINDINGS = ("Mass", "Nodule")


class Named(nn.Module):
    def forward(self, images):
        return torch.zeros(len(images), 2)


def test_only_full_batches_are_replayed_each_mode_in_its_own_way():
    model = ReplayedModel(Named(), 4, lambda images: torch.full((4, 2), 1.0), lambda images: torch.full((4, 2), 2.0))
    full, short = torch.zeros(4, 1, 8, 8), torch.zeros(3, 1, 8, 8)
    assert [model.train()(images).max().item() for images in (full, short)] == [1, 0]
    assert [model.eval()(images).max().item() for images in (full, short)] == [2, 0]


def test_logits_outlive_the_next_batch():
    memory = torch.zeros(4, 2)
    model = ReplayedModel(Named(), 4, lambda images: memory.add_(1), lambda images: memory)
    first = model.train()(torch.zeros(4, 1, 8, 8))
    model(torch.zeros(4, 1, 8, 8))
    assert first.max() == 1


def test_compiling_without_a_compiler_names_the_way_out(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match="--steps compiled needs gcc or clang.*--steps recorded"):
        check_compiler()


@pytest.mark.gpu
@pytest.mark.parametrize("amp_dtype", [torch.float32, torch.bfloat16])
def test_a_recorded_training_is_the_eager_one(amp_dtype):
    torch.manual_seed(0)
    eager = build_model(FINDINGS, pretrained=False).cuda().to(memory_format=torch.channels_last)
    other = copy.deepcopy(eager)
    sample = torch.zeros((8, 1, 64, 64), dtype=torch.uint8, device="cuda")
    recorded = record(other, sample, amp_dtype)
    for before, after in zip(eager.buffers(), other.buffers(), strict=True):
        assert torch.equal(before, after)
    batches = [torch.randint(256, (size, 1, 64, 64), dtype=torch.uint8, device="cuda") for size in (8, 8, 8, 5)]
    losses = [losses_of(model, batches, amp_dtype) for model in (eager, recorded)]
    torch.testing.assert_close(*losses, rtol=2e-2 if amp_dtype == torch.bfloat16 else 1e-3, atol=0)
    with torch.inference_mode(), torch.autocast("cuda", amp_dtype, enabled=amp_dtype != torch.float32):
        logits = [model.eval()(batches[0]).float() for model in (eager, recorded)]
    torch.testing.assert_close(*logits, rtol=0, atol=0.1 if amp_dtype == torch.bfloat16 else 1e-2)


def losses_of(model, batches, amp_dtype):
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)
    losses = []
    model.train()
    for images in batches:
        with torch.autocast("cuda", amp_dtype, enabled=amp_dtype != torch.float32):
            logits = model(images)
        loss = F.binary_cross_entropy_with_logits(logits.float(), torch.ones_like(logits, dtype=torch.float32))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses)
