"""What a peer is given, and the decoding and transforms that peers share."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from pipelines.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from shards.fold import Fold
from shards.manifest import EXTENSIONS, Manifest

PREPARED_IMAGES = 16_384
"""The least number of images that a peer's own format holds, the fold's repeated, so that epochs are not too short."""

ToImage = Callable[[bytes], torch.Tensor]
"""Turn a packed image's bytes into (C, H, W) of the output, flipped at random."""
Decoder = Callable[[Manifest, InputSpec], ToImage]
"""Decode with one library, for images as the manifest says, and do what the spec says."""


@dataclass(frozen=True)
class Source:
    """What a peer streams from: the fold, the folder that it prepared, and what to make of an image.

    `to_image` does what `spec` says, with the decoder that the peer names. `seed` is another one each time, for the
    order; a peer has `num_workers` processes or threads.
    """

    fold: Fold
    folder: Path
    spec: InputSpec
    to_image: ToImage
    batch_size: int
    num_workers: int
    seed: int

    def tars(self) -> list[str]:
        """Return the fold's shards."""
        manifest = self.fold.manifest
        return [str(self.fold.folder / shard.file) for shard in manifest.fold_shards("train")]

    def extension(self) -> str:
        """Return the extension of the images in the shards, without a dot."""
        return EXTENSIONS[self.fold.manifest.codec]

    def files(self) -> list[Path]:
        """Return what `write_files` wrote."""
        return sorted(self.folder.iterdir())


def write_files(fold: Fold, folder: Path) -> None:
    """Write each packed image to a file of its own."""
    for position in range(len(fold)):
        name = f"{position:06d}.{EXTENSIONS[fold.manifest.codec]}"
        (folder / name).write_bytes(fold.image_bytes(position).tobytes())


def repeated_bytes(fold: Fold) -> list[bytes]:
    """Return all packed images, all of them again until there are at least PREPARED_IMAGES."""
    images = [fold.image_bytes(position).tobytes() for position in range(len(fold))]
    return images * -(-PREPARED_IMAGES // len(images))


def with_torchvision(manifest: Manifest, spec: InputSpec) -> ToImage:
    """Return torchvision.io's decoder and the transforms of torchvision.transforms.v2 on tensors."""
    steps: list[Callable] = [v2.RandomHorizontalFlip(spec.flip)]
    if manifest.size != spec.size:
        steps += [v2.Resize(spec.size, antialias=True), v2.CenterCrop(spec.size)]
    if spec.channels == 3:
        steps.append(v2.RGB())
    if spec.dtype != "uint8":
        steps += [v2.ToDtype(getattr(torch, spec.dtype), scale=True), _normalise(spec)]
    transform = v2.Compose(steps)

    def to_image(data: bytes) -> torch.Tensor:
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        if manifest.codec == "raw":
            return transform(buffer.view(1, manifest.raw_side, manifest.raw_side))
        return transform(decode_image(buffer, ImageReadMode.GRAY))

    return to_image


def with_pillow(manifest: Manifest, spec: InputSpec) -> ToImage:
    """Return Pillow's decoder and torchvision's transforms on Pillow images."""
    steps: list[Callable] = [transforms.RandomHorizontalFlip(spec.flip)]
    if manifest.size != spec.size:
        steps += [transforms.Resize(spec.size), transforms.CenterCrop(spec.size)]
    as_bytes = spec.dtype == "uint8"
    steps += [transforms.PILToTensor()] if as_bytes else [transforms.ToTensor(), _normalise(spec)]
    transform = transforms.Compose(steps)
    mode = "RGB" if spec.channels == 3 else "L"

    def to_image(data: bytes) -> torch.Tensor:
        if manifest.codec == "raw":
            image = Image.frombytes("L", (manifest.raw_side, manifest.raw_side), data)
        else:
            image = Image.open(io.BytesIO(data))
        return transform(image.convert(mode))

    return to_image


def _normalise(spec: InputSpec) -> v2.Normalize:
    return v2.Normalize(IMAGENET_MEAN[: spec.channels], IMAGENET_STD[: spec.channels])
