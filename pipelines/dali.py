"""Batches from packed shards through NVIDIA DALI, on the CPU or a GPU.

DALI decodes, resizes, crops, augments, flips and normalises; only this file and `pipelines.operators` import it. It is
fed from memory maps in the order and with the draws of `pipelines.order`, so that neither its own random state nor its
prefetching decides what an epoch holds.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from pipelines.augment import Step, num_draws, parse_augment, step_inputs
from pipelines.batch import Batch, to_device
from pipelines.order import EpochOrder
from pipelines.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from shards.errors import UserError
from shards.fold import Fold

try:
    from nvidia.dali import Pipeline, fn, types
    from nvidia.dali.plugin.pytorch import feed_ndarray

    from pipelines.operators import augment, resize_packed
except ImportError as error:
    raise UserError(
        f"NVIDIA DALI cannot be imported ({error}): install one of the extras cuda110, cuda120, cuda130, "
        'as in pip install "chexnet-fast[cuda110]", or choose --loader pil'
    ) from error

PREFETCH = 3
"""Batches that DALI works on ahead of the one in use."""

HW_DECODER_LOAD = 0.65
"""The share of a batch's JPEGs that a GPU's own JPEG engines decode, if it has any; the others' Huffman codes are
decoded on the CPU. DALI's default."""

Inputs = tuple[list[np.ndarray] | np.ndarray, ...]
"""What DALI takes for a batch: the packed images, (B,) int32, 1 where an image is flipped, and the augmentation's."""


class DaliLoader:
    """Load a fold's batches with DALI.

    On the CPU a batch is DALI's own memory, without a copy; on a GPU it is one copy within the device, on torch's
    current stream. The device and the number of threads change no image's place or draw.

    Args:
        fold: the packed fold.
        spec: what is done to an image.
        order: which images form which batch.
        device: where the batches are made and lie.
        num_threads: DALI's CPU threads.
        hw_decoder_load: see HW_DECODER_LOAD.
    """

    def __init__(
        self,
        fold: Fold,
        spec: InputSpec,
        order: EpochOrder,
        device: torch.device,
        num_threads: int,
        hw_decoder_load: float = HW_DECODER_LOAD,
    ):
        self.num_images = order.num_images
        self.num_batches = order.num_batches
        self._fold = fold
        self._spec = spec
        self._order = order
        self._steps = parse_augment(spec.augment, spec.size)
        self._device = device
        self._dtype: torch.dtype = getattr(torch, spec.dtype)
        self._in_flight: deque[np.ndarray] = deque()
        self._source = _Source()
        self._pipeline = _build_pipeline(
            fold,
            spec,
            self._steps,
            self._source,
            device,
            batch_size=order.batch_size,
            num_threads=num_threads,
            hw_decoder_load=hw_decoder_load,
        )

    def epoch(self, index: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch `index` from `first_batch` on; see `pipelines.batch.Loader`.

        Starting an epoch ends the one before it.

        Raises:
            UserError: if a packed image cannot be decoded, naming its shard and image, or a shard was cut short.
                Changed pixels of a raw image, and a JPEG's missing end with DALI 1, pass unseen: `verify` finds them.
        """
        self._end_epoch()
        batches = list(self._order.batches(first_batch))
        self._source.inputs = self._epoch_inputs(index, [places for places in batches if places.stop > places.start])
        for places in batches:
            yield self._next_batch() if places.stop > places.start else self._empty_batch()

    def _end_epoch(self) -> None:
        """Let DALI finish what it prefetched of an epoch that was left, and make it ready for another."""
        self._source.inputs = iter(())
        while self._run_pipeline() is not None:
            pass
        self._in_flight.clear()
        self._pipeline.reset()

    def _epoch_inputs(self, epoch: int, batches: list[slice]) -> Iterator[Inputs]:
        permutation = self._order.permutation(epoch)
        draws = self._order.uniforms(epoch, 1 + num_draws(self._steps))
        flips = draws[:, 0] < self._spec.flip
        for places in batches:
            positions = permutation[places]
            self._in_flight.append(positions)
            yield (
                self._fold.batch_bytes(positions),
                flips[places].astype(np.int32),
                *step_inputs(self._steps, draws[places, 1:]),
            )

    def _next_batch(self) -> Batch:
        images = self._run_pipeline()
        positions = self._in_flight.popleft()
        return Batch(
            images=self._to_torch(images).permute(0, 3, 1, 2).to(self._dtype),
            labels=to_device(torch.from_numpy(self._fold.labels[positions]), self._device),
            rows=self._fold.rows[positions],
        )

    def _run_pipeline(self) -> Any:
        """Return DALI's next batch of images, or None at the end of its inputs."""
        try:
            (images,) = self._pipeline.run()
        except StopIteration:
            return None
        except RuntimeError as error:
            raise UserError(self._explain(error)) from error
        return images

    def _to_torch(self, images: Any) -> torch.Tensor:
        """Return DALI's (B, H, W, C) batch as a tensor: the same memory on the CPU, a copy on a GPU."""
        dense = images.as_tensor()
        if self._device.type == "cpu":
            return torch.from_numpy(np.asarray(dense))
        dtype = torch.float32 if self._dtype == torch.bfloat16 else self._dtype
        tensor = torch.empty(dense.shape(), dtype=dtype, device=self._device)
        feed_ndarray(dense, tensor, cuda_stream=torch.cuda.current_stream(self._device))
        return tensor

    def _empty_batch(self) -> Batch:
        shape = (0, self._spec.channels, self._spec.size, self._spec.size)
        return Batch(
            images=torch.empty(shape, dtype=self._dtype, device=self._device),
            labels=torch.empty((0, self._fold.labels.shape[1]), device=self._device),
            rows=np.empty(0, np.int32),
        )

    def _explain(self, error: RuntimeError) -> str:
        """Find the image that DALI stopped at, among those it was working on."""
        for position in np.concatenate(list(self._in_flight)).tolist():
            try:
                self._fold.image(position)
            except UserError as reason:
                return str(reason)
        return f"DALI stopped: {' '.join(str(error).split())}"


class _Source:
    """What DALI calls for its next inputs. It knows no loader, so that a loader that goes takes its pipeline along."""

    def __init__(self) -> None:
        self.inputs: Iterator[Inputs] = iter(())

    def __call__(self) -> Inputs:
        return next(self.inputs)


def _build_pipeline(
    fold: Fold,
    spec: InputSpec,
    steps: tuple[Step, ...],
    next_inputs: Callable[[], Inputs],
    device: torch.device,
    *,
    batch_size: int,
    num_threads: int,
    hw_decoder_load: float,
) -> Pipeline:
    """Build the one graph, for every device, codec, size, augmentation and output type."""
    manifest = fold.manifest
    place = "gpu" if device.type == "cuda" else "cpu"
    pipeline = Pipeline(
        batch_size=batch_size,
        num_threads=num_threads,
        device_id=device.index or 0 if place == "gpu" else None,
        prefetch_queue_depth=PREFETCH,
    )
    with pipeline:
        packed, flip, *augment_inputs = fn.external_source(
            next_inputs, num_outputs=2 + sum(step.num_inputs for step in steps), no_copy=True
        )
        if manifest.codec == "raw":
            images = fn.reshape(packed, shape=[manifest.raw_side, manifest.raw_side, 1], layout="HWC")
            shape = types.Constant(np.array([manifest.raw_side, manifest.raw_side]))
            images = images.gpu() if place == "gpu" else images
        else:
            decoder = {"device": "mixed", "hw_decoder_load": hw_decoder_load} if place == "gpu" else {"device": "cpu"}
            images = fn.decoders.image(packed, output_type=types.GRAY, **decoder)
            shape = fn.peek_image_shape(packed)
        if manifest.size != spec.size:
            images = resize_packed(images, shape, manifest.size, spec.size)
        if place == "gpu":
            augment_inputs = [values.gpu() for values in augment_inputs]
        images = augment(images, steps, augment_inputs, spec.size)
        pipeline.set_outputs(_flip_and_normalise(images, flip, spec, place))
    pipeline.build()
    return pipeline


def _flip_and_normalise(images: Any, flip: Any, spec: InputSpec, place: str) -> Any:
    """Flip and normalise; as uint8 only flip. To rounding the same on both places, each with its fastest operators."""
    means = [255 * mean for mean in IMAGENET_MEAN[: spec.channels]]
    deviations = [255 * std for std in IMAGENET_STD[: spec.channels]]
    if place == "gpu":
        return _flip_and_normalise_in_one(images, flip, spec, means, deviations)
    images = _in_channels(fn.flip(images, horizontal=flip), spec.channels)
    if spec.dtype == "uint8":
        return images
    # A row of pixels as one vector: DALI needs twice as long for a few numbers again and again.
    rows = fn.reshape(images, shape=[spec.size, spec.size * spec.channels])
    mean, deviation = (np.tile(np.array(values, np.float32), (1, spec.size)) for values in (means, deviations))
    normalised = fn.normalize(rows, mean=mean, stddev=deviation)
    return fn.reshape(normalised, shape=[spec.size, spec.size, spec.channels], layout="HWC")


def _flip_and_normalise_in_one(
    images: Any, flip: Any, spec: InputSpec, means: list[float], deviations: list[float]
) -> Any:
    """Flip and normalise in DALI's fused operator: one kernel on a GPU, but half as fast as its parts on a CPU."""
    dali_types = {
        "uint8": types.UINT8,
        "float16": types.FLOAT16,
        "bfloat16": types.FLOAT,  # DALI has no bfloat16: torch makes it
        "float32": types.FLOAT,
    }
    as_bytes = spec.dtype == "uint8"
    return fn.crop_mirror_normalize(
        _in_channels(images, spec.channels),
        mirror=flip,
        dtype=dali_types[spec.dtype],
        output_layout="HWC",
        mean=[0.0] * spec.channels if as_bytes else means,
        std=[1.0] * spec.channels if as_bytes else deviations,
    )


def _in_channels(images: Any, channels: int) -> Any:
    """Repeat the grey channel if three are wanted."""
    if channels == 1:
        return images
    return fn.color_space_conversion(images, image_type=types.GRAY, output_type=types.RGB)
