"""Measure rates of batches fairly: warmed up, interleaved, repeated, with their spread."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

Stream = Callable[[int], Iterator[int]]
"""Start a stream of batches for round i, as the number of images in each; closing the iterator stops its workers."""


@dataclass(frozen=True)
class Rate:
    """Images per second over the rounds: the median, and a 95 % bootstrap interval of it."""

    median: float
    low: float
    high: float


def measure_rates(
    streams: Mapping[str, Stream], num_rounds: int = 5, seconds: float = 3.0, num_warmup: int = 8
) -> dict[str, Rate]:
    """Measure how many images per second each stream yields.

    In each round every stream is started anew, in turn, so that a slow drift of the machine meets all of them alike.
    Its first batches are not timed: they were prepared while workers started and queues filled.

    Args:
        streams: what to measure, by name. A stream must not end within a round.
        num_rounds: rounds, one rate each.
        seconds: the least time that a stream is timed for in a round.
        num_warmup: batches before the clock starts; more than a stream prefetches.

    Returns:
        One Rate per name.
    """
    rounds: dict[str, list[float]] = {name: [] for name in streams}
    turns = [(index, name) for index in range(num_rounds) for name in streams]
    for index, name in tqdm(turns, "measure"):
        gc.collect()  # what the last stream left goes here, not in a worker that is forked later
        rounds[name].append(_rate_of(streams[name](index), seconds, num_warmup))
    return {name: summarise(rates) for name, rates in rounds.items()}


def summarise(rates: list[float]) -> Rate:
    """Return the median of some rates and its 95 % interval, by 10,000 bootstrap samples from a fixed seed."""
    samples = np.random.default_rng(0).choice(rates, (10_000, len(rates)))
    low, high = np.percentile(np.median(samples, axis=1), [2.5, 97.5])
    return Rate(float(np.median(rates)), float(low), float(high))


def _rate_of(batches: Iterator[int], seconds: float, num_warmup: int) -> float:
    for _ in range(num_warmup):
        next(batches)
    num_images = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        num_images += next(batches)
    del batches
    return num_images / elapsed
