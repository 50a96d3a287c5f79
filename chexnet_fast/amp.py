"""In which arithmetic a device runs the forward pass."""

from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")


def amp_dtype(policy: str, device: torch.device) -> torch.dtype:
    """Return the forward pass's arithmetic: what TrainConfig.amp says, on this device.

    `auto` is the fastest that the device has in hardware: bfloat16, or else float16 on a GPU and float32 on a CPU,
    where bfloat16 without AVX512-BF16 is emulated.
    """
    if policy != "auto":
        return getattr(torch, policy)
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def amp_name(dtype: torch.dtype) -> str:
    """Return the policy of that name, such as float32, for an arithmetic."""
    return str(dtype).removeprefix("torch.")


def _cpu_has_bfloat16() -> bool:
    return CPUINFO.exists() and "avx512_bf16" in CPUINFO.read_text(encoding="utf-8").split()
