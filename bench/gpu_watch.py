"""How busy a GPU is, as nvidia-smi sees it."""

import subprocess
import threading
import time
from types import TracebackType

import torch

PERIOD_MS = 50


class GpuWatch:
    """Ask nvidia-smi many times a second, for as long as the context lasts, which share of its time the GPU works.

    On a machine without a GPU it watches nothing.

    Args:
        device: the device to watch.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._samples: list[tuple[float, float]] = []

    def __enter__(self) -> "GpuWatch":
        if self._device.type == "cuda":
            uuid = torch.cuda.get_device_properties(self._device).uuid
            command = ["nvidia-smi", f"--id=GPU-{uuid}", "--query-gpu=utilization.gpu"]
            self._smi = subprocess.Popen(
                [*command, "--format=csv,noheader,nounits", f"--loop-ms={PERIOD_MS}"], stdout=subprocess.PIPE, text=True
            )
            self._reader = threading.Thread(target=self._read)
            self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device.type == "cuda":
            self._smi.terminate()
            self._smi.wait()
            self._reader.join()

    def _read(self) -> None:
        assert self._smi.stdout is not None
        for line in self._smi.stdout:
            self._samples.append((time.perf_counter(), float(line) / 100))

    def busy_between(self, start: float, end: float) -> float | None:
        """Return the mean share, 0 to 1, in which a kernel ran between two times of perf_counter; None if unknown."""
        shares = [share for at, share in self._samples if start <= at <= end]
        return sum(shares) / len(shares) if shares else None
