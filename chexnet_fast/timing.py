"""How long a device waits for data."""

import time

import torch


class DataWait:
    """Add up the time between a step's end and the arrival of the next batch, as the device sees it.

    On a GPU the clock is the GPU's own, read from events in its stream: the host may wait for a batch while the GPU
    still computes, and that costs nothing. What is counted there is all the time that the GPU has nothing to do
    between two steps. On the CPU it is the wall time until the loader yields.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._waits: list[tuple] = []
        self._ready = self._now()

    def device_is_ready(self) -> None:
        """Note that a step has been queued: from its end on, the device waits."""
        self._ready = self._now()

    def batch_arrived(self) -> None:
        """Note that a batch is on the device."""
        self._waits.append((self._ready, self._now()))

    def take_seconds(self) -> float:
        """Return the seconds waited since the last call; waits for the GPU to get there."""
        if self._on_gpu:
            torch.cuda.synchronize()
            seconds = sum(ready.elapsed_time(arrived) / 1000 for ready, arrived in self._waits)
        else:
            seconds = sum(arrived - ready for ready, arrived in self._waits)
        self._waits.clear()
        return seconds

    def _now(self) -> "float | torch.cuda.Event":
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
