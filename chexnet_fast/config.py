"""What a training run is: one complete, typed config, and the recipes that return it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from shards.errors import UserError

OPTIMIZERS = ("sgd", "adamw")
AMP_POLICIES = ("auto", "float32", "bfloat16", "float16")
LOADERS = ("dali", "pil")
DEVICES = ("cuda", "cpu")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training run is a function of, besides the shards and the first weights.

    Raises:
        UserError: if a value is out of its range; the message names the option and quotes the value.
    """

    recipe: str
    """The name of the recipe that the other values started from."""
    epochs: int
    """The most epochs to train; early stopping may end sooner."""
    batch_size: int
    """Images per optimizer step, over all ranks: more GPUs share the same batch, so the run stays the same."""
    optimizer: str
    """sgd (with momentum) or adamw."""
    lr: float
    """The first learning rate."""
    momentum: float
    """SGD's momentum; AdamW's first beta."""
    weight_decay: float
    lr_divisor: float
    """The learning rate is divided by this after `lr_patience` epochs without a better validation loss."""
    lr_patience: int
    """In epochs."""
    stop_patience: int
    """Training stops after this many epochs without a better validation loss."""
    flip: float
    """The probability of mirroring a training image left to right."""
    size: int | None
    """The side of the model's square input in pixels; None takes the size that the shards were packed at."""
    amp: str = "auto"
    """Arithmetic of the forward pass: float32, bfloat16, float16 (with gradient scaling, GPU only), or auto:
    bfloat16 on a GPU that has it, float16 on an older one, float32 on the CPU."""
    channels_last: bool = True
    """Keep images and weights in channels_last memory."""
    seed: int = 0
    """Fixes the first weights, the order of the images and their augmentation."""
    loader: str = "dali"
    """dali (reads shards) or pil (the reference's way, from the original images)."""
    device: str = "cuda"
    """cuda or cpu."""
    num_threads: int | None = None
    """Loader threads (dali) or worker processes (pil) per rank; None shares the machine's cores among its ranks."""
    checkpoint_minutes: float = 10.0
    """Write a checkpoint at least this often, besides the one after every epoch."""

    def __post_init__(self) -> None:
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("amp", AMP_POLICIES),
            ("loader", LOADERS),
            ("device", DEVICES),
        ):
            value = getattr(self, name)
            _require(value in known, name, f"one of {', '.join(known)}", value)
        for name in ("epochs", "batch_size", "lr_patience", "stop_patience"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("size", "num_threads"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, "at least 1", value)
        for name in ("lr", "checkpoint_minutes"):
            _require(getattr(self, name) > 0, name, "greater than 0", getattr(self, name))
        _require(self.weight_decay >= 0, "weight_decay", "at least 0", self.weight_decay)
        _require(self.lr_divisor >= 1, "lr_divisor", "at least 1", self.lr_divisor)
        _require(0 <= self.momentum < 1, "momentum", "at least 0 and below 1", self.momentum)
        _require(0 <= self.flip <= 1, "flip", "a probability from 0 to 1", self.flip)
        _require(self.seed >= 0, "seed", "at least 0", self.seed)
        possible = self.amp != "float16" or self.device == "cuda"
        _require(possible, "amp", "auto, float32 or bfloat16 on the CPU", self.amp)


def _require(holds: bool, name: str, rule: str, value: object) -> None:
    if not holds:
        raise UserError(f"--{name.replace('_', '-')} must be {rule}, not {value!r}")


def reference() -> TrainConfig:
    """Return reproduce-chexnet's training, to the letter.

    Every value is that of its `retrain.py` and `model.py`: SGD with momentum 0.9, at most 100 epochs, the learning
    rate divided by 10 after each epoch that did not improve, an end after 3 of them, 224 pixels, random mirroring.
    Only the arithmetic differs (`amp`; `--amp float32` is the original's).
    """
    return TrainConfig(
        recipe="reference",
        epochs=100,
        batch_size=16,
        optimizer="sgd",
        lr=0.01,
        momentum=0.9,
        weight_decay=1e-4,
        lr_divisor=10.0,
        lr_patience=1,
        stop_patience=3,
        flip=0.5,
        size=224,
    )


def reference_3() -> TrainConfig:
    """Return the training of reproduce-chexnet's fork for NIH 224 and CheXphoto: the learning rate is divided by 3."""
    return dataclasses.replace(reference(), recipe="reference-3", lr_divisor=3.0)


RECIPES: dict[str, Callable[[], TrainConfig]] = {"reference": reference, "reference-3": reference_3}
"""The recipes by the name that `--recipe` takes."""
