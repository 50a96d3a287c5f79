"""The one statement of what a loader does to an image."""

from dataclasses import dataclass

from pipelines.augment import parse_augment

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DTYPES = ("uint8", "float16", "bfloat16", "float32")


@dataclass(frozen=True)
class InputSpec:
    """How a packed or original image becomes a model's input.

    The image is made grey, resized so that its shorter side is `size` pixels (bilinear, antialiased, as Pillow does),
    cropped to the central `size` x `size`, flipped left to right with probability `flip`, and given `channels` equal
    channels (1 or 3). As uint8 it stays 0..255, and the model normalises; as a floating-point type it is divided by
    255 and normalised with ImageNet's mean and standard deviation (one channel: the first ones), in float32, from
    which 16-bit types are rounded.

    `augment` names what is done besides, between cropping and flipping; see `pipelines.augment.parse_augment`.
    """

    size: int = 224
    channels: int = 1
    dtype: str = "uint8"
    flip: float = 0.0
    augment: str = "none"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, not {self.size}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, not {self.channels}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must be a probability, not {self.flip}")
        parse_augment(self.augment, self.size)
