"""The reference: torchvision on Pillow images, step by step as reproduce-chexnet does it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional

from pipelines.batch import Batch
from pipelines.order import EpochOrder
from pipelines.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from shards.errors import UserError
from shards.workers import garbage_kept_here

Draw = tuple[int, bool]
"""An image to load: its position in the fold, and whether it is flipped."""
OpenImage = Callable[[int], Image.Image]
"""Open the image at a position of the fold: `Fold.image`, or an original. Raises UserError if it is damaged."""


def open_originals(files: Sequence[Path]) -> OpenImage:
    """Return what opens the original image files of a fold, which are given in table order."""

    def open_original(position: int) -> Image.Image:
        try:
            image = Image.open(files[position])
            image.load()
        except Exception as error:  # on damaged data Pillow raises SyntaxError, struct.error, zlib.error and many more
            raise UserError(f"{files[position]}: {error}; restore the original, or choose --loader dali") from error
        return image

    return open_original


class PilLoader:
    """Load a fold's batches with Pillow, torchvision and a torch DataLoader, from original files or from shards.

    Batches lie on the CPU, whatever number of workers made them, and their memory is the caller's.

    Args:
        open_image: opens an image.
        labels: (N, F) float32: 1 positive, 0 negative, NaN unknown.
        rows: (N,) int32: each image's row in the study table.
        spec: what is done to an image.
        order: which images form which batch.
        num_workers: DataLoader worker processes; 0 loads in this process.
    """

    def __init__(
        self,
        open_image: OpenImage,
        labels: np.ndarray,
        rows: np.ndarray,
        spec: InputSpec,
        order: EpochOrder,
        num_workers: int,
    ):
        self.num_images = order.num_images
        self.num_batches = order.num_batches
        self._dataset = _Batches(open_image, spec)
        self._labels = labels
        self._rows = rows
        self._spec = spec
        self._order = order
        self._num_workers = num_workers

    def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch `index` from `first_batch` on; see `pipelines.batch.Loader`.

        Raises:
            UserError: if an image cannot be read or decoded, naming it.
        """
        permutation = self._order.permutation(index)
        flips = self._order.uniforms(index, 1)[:, 0] < self._spec.flip
        batches = list(self._order.batches(first_batch))
        draws = [list(zip(permutation[places].tolist(), flips[places].tolist(), strict=True)) for places in batches]
        fork = "fork" if self._num_workers else None  # an open fold is shared, not sent
        loader = DataLoader(
            self._dataset, None, sampler=draws, num_workers=self._num_workers, multiprocessing_context=fork
        )
        with garbage_kept_here():
            loaded = iter(loader)
        for places, images in zip(batches, loaded, strict=True):
            if isinstance(images, UserError):
                raise images
            positions = permutation[places]
            yield Batch(images, torch.from_numpy(self._labels[positions]), self._rows[positions])


class _Batches(Dataset[torch.Tensor | UserError]):
    """A batch of transformed images for each list of draws."""

    def __init__(self, open_image: OpenImage, spec: InputSpec):
        self._open_image = open_image
        self._spec = spec
        self._mode = "RGB" if spec.channels == 3 else "L"
        self._resize = transforms.Compose([transforms.Resize(spec.size), transforms.CenterCrop(spec.size)])
        self._normalise = transforms.Compose(
            [
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN[: spec.channels], IMAGENET_STD[: spec.channels]),
            ]
        )

    def __getitem__(self, draws: Sequence[Draw]) -> torch.Tensor | UserError:
        """Return a batch, or the error: raised in a worker, it would come to the user with the worker's traceback."""
        try:
            images = [self._image(position, flipped) for position, flipped in draws]
        except UserError as error:
            return error
        shape = (self._spec.channels, self._spec.size, self._spec.size)
        batch = torch.stack(images) if images else torch.empty((0, *shape), dtype=getattr(torch, self._spec.dtype))
        return batch.contiguous(memory_format=torch.channels_last)

    def _image(self, position: int, flipped: bool) -> torch.Tensor:
        """Return an image in reproduce-chexnet's order: convert, flip, resize, crop, tensor, normalise.

        Three channels are made as there, by converting to RGB first; a grey image's one channel is each of those three.
        """
        image = self._open_image(position).convert(self._mode)
        if flipped:
            image = functional.hflip(image)
        image = self._resize(image)
        pixels = functional.pil_to_tensor(image) if self._spec.dtype == "uint8" else self._normalise(image)
        return pixels.to(getattr(torch, self._spec.dtype))
