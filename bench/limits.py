"""What arithmetic and memory allow a training step: no loop is faster."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

NUM_REPEATS = 20


@dataclass(frozen=True)
class Limits:
    """What an image costs, and what the device gives.

    `flops` are the floating-point operations of an image's forward and backward pass. `num_bytes` are the bytes moved
    if every convolution reads its tensors and writes its results once, and all between convolutions costs nothing.
    `flops_per_second` is a large matrix product's, `bytes_per_second` a large copy's, counting reads and writes.
    """

    flops: float
    num_bytes: float
    flops_per_second: float
    bytes_per_second: float

    @property
    def arithmetic(self) -> float:
        """Images per second if only arithmetic took time."""
        return self.flops_per_second / self.flops

    @property
    def bandwidth(self) -> float:
        """Images per second if only memory took time."""
        return self.bytes_per_second / self.num_bytes


def measure_limits(model: nn.Module, size: int, device: torch.device, dtype: torch.dtype) -> Limits:
    """Count what a training step of a model does to an image, and measure the device.

    Args:
        model: takes (B, 1, size, size) uint8 images; it is run once, in evaluation mode.
        size: side of the images in pixels.
        device: the model's.
        dtype: the arithmetic of the convolutions.
    """
    convolution_elements = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal convolution_elements
        convolution_elements += inputs[0].numel() + output.numel()

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, nn.Conv2d)]
    images = torch.zeros((1, 1, size, size), dtype=torch.uint8, device=device)
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    for hook in hooks:
        hook.remove()
    model.zero_grad()
    # Forward: the input is read, the output written. Backward: the output's gradient is read twice and the input once,
    # for the gradients of the weights and of the input, which is written. So each is moved three times.
    return Limits(
        flops=counter.get_total_flops(),
        num_bytes=3 * convolution_elements * dtype.itemsize,
        flops_per_second=_matrix_flops(device, dtype),
        bytes_per_second=_copy_bytes(device),
    )


def _matrix_flops(device: torch.device, dtype: torch.dtype) -> float:
    side = 8192 if device.type == "cuda" else 1024
    left, right, product = (torch.randn((side, side), device=device).to(dtype) for _ in range(3))
    return 2 * side**3 / _seconds(lambda: torch.mm(left, right, out=product), device)


def _copy_bytes(device: torch.device) -> float:
    source = torch.ones(1 << (28 if device.type == "cuda" else 24), device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: target.copy_(source), device)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the mean seconds of some repeats, after as many to warm up."""
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        for _ in range(NUM_REPEATS):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = (time.perf_counter() - start) / NUM_REPEATS
    return seconds
