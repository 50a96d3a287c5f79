"""What a training run is: one complete, typed config, and the recipes that return it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from shards.errors import UserError

OPTIMIZERS = ("sgd", "adamw")
AMP_POLICIES = ("auto", "float32", "bfloat16", "float16")
SCHEDULES = ("plateau", "cosine")
CLASS_WEIGHTS = ("none", "balanced")
BLANKS = (None, "ones", "zeros", "ignore")
LOADERS = ("dali", "resident", "pil", "pil-shards")
DEVICES = ("cuda", "cpu")
STEPS = ("eager", "recorded", "compiled")


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
    """Images per optimizer step, over all ranks: more GPUs share the same batch."""
    optimizer: str
    """sgd (with momentum) or adamw."""
    lr: float
    """The first learning rate, after the warm-up if there is one."""
    momentum: float
    """SGD's momentum; AdamW's first beta."""
    weight_decay: float
    lr_divisor: float
    """Under the plateau schedule the learning rate is divided by this after `lr_patience` epochs without a better
    validation loss."""
    lr_patience: int
    """In epochs."""
    stop_patience: int
    """Training stops after this many epochs without a better validation loss."""
    flip: float
    """The probability of mirroring a training image left to right."""
    size: int | None
    """The side of the model's square input in pixels; None takes the size that the shards were packed at."""
    schedule: str = "plateau"
    """plateau (falls with the validation loss) or cosine (falls to 0 over all epochs)."""
    warmup_epochs: float = 0.0
    """The learning rate rises linearly from 0 over as many epochs, whole or not."""
    augment: str = "none"
    """What is done to a training image besides mirroring it: none, standard, or one of CheXphoto's, such as
    chexphoto-photographic; `chexnet-fast explore --augment` shows them."""
    flip_at_test: bool = False
    """Evaluate with logits averaged over each image and its mirror image."""
    uncertain: tuple[str, ...] = ()
    """What labels count as that the source marks as uncertain: ones, zeros or ignore (the default), or FINDING=ones
    for one finding."""
    blank: str | None = None
    """What labels count as that the source leaves blank: ones, zeros or ignore; None for the data set's own custom."""
    class_weights: str = "none"
    """none, or balanced: a finding's positive labels weigh as much as its negative ones, by its share of positives
    among the training fold's known labels, as in CheXNet's paper (arXiv:1711.05225); in training and validation."""
    amp: str = "auto"
    """Arithmetic of the forward pass: float32, bfloat16, float16 (with gradient scaling, GPU only), or auto:
    bfloat16 on a GPU or CPU (AVX512-BF16) that has it, float16 on an older GPU, float32 on other CPUs; a run folder
    names the one that it was."""
    channels_last: bool = True
    """Keep images and weights in channels_last memory."""
    steps: str = "recorded"
    """How a GPU runs full batches: eager, recorded (each pass as one CUDA graph, so that the host need not be fast), or
    compiled (by torch.compile too: fewer kernels, after minutes at the start). The CPU always runs them eagerly."""
    sync_batch_norm: bool = False
    """Batch norm of several ranks takes the statistics of the whole batch: the training is then that of one rank, up
    to rounding, at the price of an exchange a layer and of eager steps. Without, each rank normalises with its own part
    of the batch, as usual."""
    seed: int = 0
    """Fixes the first weights, the order of the images and their augmentation."""
    loader: str = "dali"
    """dali (reads the shards), resident (keeps them in memory), pil (the reference's way, from the original images)
    or pil-shards (the same from the shards)."""
    device: str = "cuda"
    """cuda or cpu."""
    num_threads: int | None = None
    """Loader threads (dali) or worker processes (pil) per rank; None shares the machine's cores among its ranks."""
    checkpoint_minutes: float = 10.0
    """Write a checkpoint at least this often, besides the one after every epoch."""
    wandb: str | None = None
    """Draw the curves in this project of Weights & Biases, too; needs the extra `wandb`."""

    def __post_init__(self) -> None:
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("blank", BLANKS),
            ("class_weights", CLASS_WEIGHTS),
            ("amp", AMP_POLICIES),
            ("loader", LOADERS),
            ("device", DEVICES),
            ("steps", STEPS),
        ):
            value = getattr(self, name)
            _require(value in known, name, f"one of {', '.join(map(str, known))}", value)
        for name in ("epochs", "batch_size", "lr_patience", "stop_patience"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("size", "num_threads"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, "at least 1", value)
        for name in ("lr", "checkpoint_minutes"):
            _require(getattr(self, name) > 0, name, "greater than 0", getattr(self, name))
        _require(self.weight_decay >= 0, "weight_decay", "at least 0", self.weight_decay)
        _require(self.lr_divisor >= 1, "lr_divisor", "at least 1", self.lr_divisor)
        rule = f"at least 0 and below --epochs {self.epochs}"
        _require(0 <= self.warmup_epochs < self.epochs, "warmup_epochs", rule, self.warmup_epochs)
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


def fast() -> TrainConfig:
    """Return a training for a whole GPU: batches of 128, in a fixed number of epochs.

    AdamW at the 1e-3 with which CheXNet's paper runs Adam (arXiv:1711.05225), after an epoch of warm-up: on phantoms,
    in as many epochs, it gives a higher AUC than the reference, of an eighth of the steps; SGD at eight times the
    reference's rate does not reach it in three times the epochs. The cosine of Loshchilov and Hutter
    (arXiv:1608.03983) replaces the plateau, so that the length of a training is known before it starts and does not
    hang on the noise of the validation loss; ten epochs are about what the plateau takes.
    """
    return dataclasses.replace(
        reference(),
        recipe="fast",
        epochs=10,
        batch_size=128,
        optimizer="adamw",
        lr=1e-3,
        warmup_epochs=1.0,
        schedule="cosine",
        stop_patience=10,
    )


def official() -> TrainConfig:
    """Return a training for NIH's official split, whose test patients are sicker than its training patients.

    It regularises more than the reference: `standard` augmentation, AdamW (Loshchilov and Hutter, arXiv:1711.05101) at
    the 1e-4 with which other reproductions run Adam, with decoupled weight decay, and mirror images averaged at test.
    """
    return dataclasses.replace(
        reference(),
        recipe="official",
        epochs=15,
        batch_size=64,
        optimizer="adamw",
        lr=1e-4,
        weight_decay=0.05,
        warmup_epochs=1.0,
        schedule="cosine",
        stop_patience=15,
        augment="standard",
        flip_at_test=True,
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "reference": reference,
    "reference-3": reference_3,
    "fast": fast,
    "official": official,
}
"""The recipes by the name that `--recipe` takes."""
