"""What the training benchmark measures: training itself, a plain loop, and the reference's way."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import timm
import torch
import torchvision
from torch import nn

from chexnet_fast.amp import amp_name
from chexnet_fast.predict import predict_logits
from chexnet_fast.progress import Progress
from chexnet_fast.schedule import Plateau
from chexnet_fast.trainer import Training
from pipelines.batch import Batch, Loader
from pipelines.order import EpochOrder

NUM_WARMUP = 40
"""Steps before the clock starts; more than the loaders prefetch, of which a DataLoader has two batches a worker."""
SYNC_STEPS = 50
"""The loops that never read a result let the GPU catch up as often, so that the clock sees it."""
REFERENCE_BATCH = 16
"""reproduce-chexnet's batch size."""


@dataclass(frozen=True)
class Pace:
    """How fast a loop trained between two times of perf_counter, and its share of waiting for data, 0 to 1."""

    images_per_second: float
    data_wait: float | None
    start: float
    end: float


@dataclass(frozen=True)
class Case:
    """A way to train on one input.

    `family` is "reference", "plain", "ours" or "ceiling"; `reads` says what images come from. `train` trains for some
    seconds after a warm-up; `validate` runs the model over its validation images and returns images per second.
    """

    family: str
    name: str
    reads: str
    batch_size: int
    arithmetic: str
    train: Callable[[float], Pace]
    validate: Callable[[], float]


def our_case(
    name: str, reads: str, training: Training, train_loader: Loader, val_loader: Loader, val_rows: np.ndarray
) -> Case:
    """Return the project's own training, fed by a loader.

    Args:
        name: the loader's.
        reads: what it reads.
        training: ready to train; cases may share it.
        train_loader: an epoch of it must be longer than what is measured.
        val_loader: read whole.
        val_rows: the rows it yields, ascending.
    """

    def train(seconds: float) -> Pace:
        training.progress = Progress(Plateau(training.config.lr))
        timed = _Timed(train_loader, training, seconds)
        training.train_epoch(timed)
        progress = training.progress
        return Pace(
            timed.num_images / progress.seconds,
            progress.wait_seconds / progress.seconds,
            timed.start,
            time.perf_counter(),
        )

    def validate() -> float:
        start = time.perf_counter()
        predict_logits(training.step_model, val_loader, val_rows, training.device, training.amp_dtype)
        return val_loader.num_images / (time.perf_counter() - start)

    steps = f", {training.config.steps}" if training.device.type == "cuda" else ""
    arithmetic = amp_name(training.amp_dtype) + steps
    family = "ceiling" if isinstance(train_loader, OneBatch) else "ours"
    return Case(family, name, reads, training.config.batch_size, arithmetic, train, validate)


class OneBatch:
    """Yield one batch of random images, which lies on the device, again and again: data that costs nothing.

    Args:
        num_images: in an epoch.
        batch_size: images in a full batch.
        size: side of the images in pixels.
        num_findings: labels of each.
        device: where the batch lies.
    """

    def __init__(self, num_images: int, batch_size: int, size: int, num_findings: int, device: torch.device) -> None:
        self.num_images = num_images
        self._order = EpochOrder(num_images, batch_size, shuffle=False)
        self.num_batches = self._order.num_batches
        pixels = torch.randint(256, (batch_size, size, size, 1), dtype=torch.uint8, device=device)
        self._images = pixels.permute(0, 3, 1, 2)
        self._labels = torch.randint(2, (batch_size, num_findings), device=device).float()

    def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches; see `pipelines.batch.Loader`."""
        for places in self._order.batches(first_batch):
            rows = np.arange(places.start, places.stop, dtype=np.int32)
            yield Batch(self._images[: len(rows)], self._labels[: len(rows)], rows)


class _Timed:
    """Yield a loader's batches for some seconds after a warm-up; a training's clocks count only these."""

    def __init__(self, loader: Loader, training: Training, seconds: float) -> None:
        self.num_images = 0
        self.num_batches = loader.num_batches
        self.start = 0.0
        self._loader = loader
        self._training = training
        self._seconds = seconds

    def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
        batches = self._loader.epoch(index, first_batch)
        yield from islice(batches, NUM_WARMUP)
        self._training.settle()
        self._training.progress.seconds = self._training.progress.wait_seconds = 0.0
        self._training.data_wait.device_is_ready()
        self.start = time.perf_counter()
        for batch in batches:
            self.num_images += len(batch.rows)
            yield batch
            if time.perf_counter() - self.start > self._seconds:
                break


def plain_case(
    size: int, num_findings: int, batch_size: int, num_val: int, device: torch.device, amp: torch.dtype
) -> Case:
    """Return timm's DenseNet-121 in a plain loop with AMP and channels_last, on one batch that lies on the device.

    Three float channels, as a loader of RGB images gives them.
    """
    model = timm.create_model("densenet121", num_classes=num_findings).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4)
    images = torch.randn(batch_size, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(2, (batch_size, num_findings), device=device).float()
    criterion = nn.BCEWithLogitsLoss()

    def steps() -> Iterator[int]:
        torch.backends.cudnn.benchmark = True
        model.train()
        for step in count(1):
            with torch.autocast(device.type, amp, enabled=amp != torch.float32):
                loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % SYNC_STEPS == 0:
                _synchronize(device)
            yield batch_size

    @torch.inference_mode()
    def validation() -> Iterator[int]:
        model.eval()
        for _ in range(-(-num_val // batch_size)):
            with torch.autocast(device.type, amp, enabled=amp != torch.float32):
                model(images)
            yield batch_size

    arithmetic = amp_name(amp)
    return _loop_case("plain", "plain timm loop, eager", "one batch", batch_size, arithmetic, steps, validation, device)


def reference_case(train_loader: Loader, val_loader: Loader, num_findings: int, device: torch.device) -> Case:
    """Return reproduce-chexnet's way: torchvision's DenseNet-121, float32, BCELoss, the loss read at each step.

    Args:
        train_loader: yields normalised RGB float32 in batches of REFERENCE_BATCH, from the original files.
        val_loader: the same, read whole.
        num_findings: the width of the last layer.
        device: where to train.
    """
    model = torchvision.models.densenet121(weights=None)
    model.classifier = nn.Sequential(nn.Linear(model.classifier.in_features, num_findings), nn.Sigmoid())
    model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=1e-4)
    criterion = nn.BCELoss()

    def steps() -> Iterator[int]:
        torch.backends.cudnn.benchmark = False
        model.train()
        running_loss = 0.0
        for batch in train_loader.epoch(0):
            images, labels = batch.images.to(device), batch.labels.to(device)
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(images)
            yield len(images)

    @torch.no_grad()
    def validation() -> Iterator[int]:
        model.eval()
        for batch in val_loader.epoch(0):
            criterion(model(batch.images.to(device)), batch.labels.to(device)).item()
            yield len(batch.rows)

    return _loop_case("reference", "reference", "files", REFERENCE_BATCH, "float32", steps, validation, device)


def _loop_case(
    family: str,
    name: str,
    reads: str,
    batch_size: int,
    arithmetic: str,
    steps: Callable[[], Iterator[int]],
    validation: Callable[[], Iterator[int]],
    device: torch.device,
) -> Case:
    def train(seconds: float) -> Pace:
        running = steps()
        for _ in range(NUM_WARMUP):
            next(running)
        _synchronize(device)
        num_images, start = 0, time.perf_counter()
        for size in running:
            num_images += size
            if time.perf_counter() - start > seconds:
                break
        _synchronize(device)
        end = time.perf_counter()
        return Pace(num_images / (end - start), None, start, end)

    def validate() -> float:
        start = time.perf_counter()
        num_images = sum(validation())
        _synchronize(device)
        return num_images / (time.perf_counter() - start)

    return Case(family, name, reads, batch_size, arithmetic, train, validate)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
