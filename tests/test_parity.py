"""The `reference` recipe beside reproduce-chexnet's way, step by step."""

import dataclasses
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_nih import write_nih
from torch import nn
from torch.nn import functional as F
from torchvision import transforms
from torchvision.models import densenet121

from chexnet_fast.config import reference
from chexnet_fast.import_weights import chexnet_name
from chexnet_fast.interrupts import Interrupts
from chexnet_fast.losses import bce_sum, objective
from chexnet_fast.model import ChexNet
from chexnet_fast.rundir import RunDir
from chexnet_fast.trainer import Training
from pipelines.build import build_loader
from pipelines.order import EpochOrder
from pipelines.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from shards.fold import Fold, open_fold
from shards.pack import pack

CONFIG = dataclasses.replace(reference(), batch_size=4, size=64, amp="float32", device="cpu")


@pytest.fixture(scope="module")
def fold(tmp_path_factory: pytest.TempPathFactory) -> Fold:
    folder = tmp_path_factory.mktemp("parity")
    images, labels = write_nih(folder, num_patients=58, size=90)
    manifest = pack(folder / "shards", "nih", [images], labels, ["patient"], size=64, num_workers=2, progress=False)
    return open_fold(folder / "shards", manifest, "train")


def published_model() -> nn.Module:
    torch.manual_seed(0)
    model = densenet121(weights=None)
    model.classifier = nn.Sequential(nn.Linear(model.classifier.in_features, 14), nn.Sigmoid())
    return model


def published_batches(fold: Fold) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of original images through Pillow and torchvision, in the order and with the flips of our loaders."""
    order = EpochOrder(len(fold), CONFIG.batch_size, CONFIG.seed, shuffle=True)
    prepare = transforms.Compose(
        [
            transforms.Resize(64),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    permutation, flipped = order.permutation(0), order.uniforms(0, 1)[:, 0] < CONFIG.flip
    for places in order.batches():
        images = []
        for place in range(len(permutation))[places]:
            image = Image.open(fold.table["path"].iloc[permutation[place]]).convert("RGB")
            images.append(prepare(transforms.functional.hflip(image) if flipped[place] else image))
        yield torch.stack(images), torch.from_numpy(fold.labels[permutation[places]])


def published_losses(model: nn.Module, fold: Fold, num_steps: int, from_logits: bool) -> list[float]:
    """Train reproduce-chexnet's model and return each step's BCELoss.

    With `from_logits` the gradient is that of the logits' cross-entropy: the same number, rounded otherwise. A
    DenseNet-121 with random weights makes 1 % of loss out of a rounding error within 20 steps, whoever trains it.
    """
    criterion = nn.BCELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    linear, sigmoid = model.classifier
    model.classifier = nn.Identity()
    model.train()
    losses = []
    for images, labels in islice(published_batches(fold), num_steps):
        logits = linear(model(images.to(memory_format=torch.channels_last)))
        loss = criterion(sigmoid(logits), labels)
        optimizer.zero_grad()
        total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        (total / labels.numel() if from_logits else loss).backward()
        optimizer.step()
        losses.append(loss.item())
    model.classifier = nn.Sequential(linear, sigmoid)
    return losses


@pytest.mark.parametrize(("num_steps", "from_logits"), [(2, False), pytest.param(20, True, marks=pytest.mark.slow)])
def test_steps_equal_those_of_torchvision_pillow_and_bce_loss(
    fold: Fold, tmp_path: Path, num_steps: int, from_logits: bool
) -> None:
    published = published_model()
    model = ChexNet(14)
    model.load_state_dict({chexnet_name(name): value.clone() for name, value in published.state_dict().items()})
    training = Training(CONFIG, model, fold.manifest.findings, RunDir(tmp_path), torch.device("cpu"), Interrupts())
    training.restore()
    training.shared_model.train()
    spec = InputSpec(64, flip=CONFIG.flip)
    loader = build_loader("dali", fold.folder, "train", spec, CONFIG.batch_size, seed=CONFIG.seed, shuffle=True)
    for batch in islice(loader.epoch(0), num_steps):
        training.train_step(batch)
    losses = [float(loss_sum / num_known) for loss_sum, num_known, _ in training.unsettled]
    assert len(losses) == num_steps
    expected = published_losses(published.to(memory_format=torch.channels_last), fold, num_steps, from_logits)
    assert losses == pytest.approx(expected, rel=1e-5)
    for name, value in published.state_dict().items():
        torch.testing.assert_close(model.state_dict()[chexnet_name(name)], value, rtol=0, atol=1e-4)


def test_the_losses_gradient_is_that_of_sigmoid_and_bce_loss() -> None:
    random = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(16, 14, generator=random)).requires_grad_()
    labels = (torch.rand(16, 14, generator=random) < 0.2).float()
    (ours,) = torch.autograd.grad(objective(*bce_sum(logits, labels)), logits)
    (theirs,) = torch.autograd.grad(nn.BCELoss()(logits.sigmoid(), labels), logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)
