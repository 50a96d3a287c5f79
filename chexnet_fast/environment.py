"""What a result was made with and on: versions, commit, machine."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "chexnet-fast",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pillow",
    "imagecodecs",
    "nvidia-dali-cuda110",
    "nvidia-dali-cuda120",
    "nvidia-dali-cuda130",
)
"""The packages whose versions bear on results or speed; of DALI one is installed."""


def describe_environment() -> dict[str, Any]:
    """Return the date, versions, commit and machine, ready for JSON.

    `git_commit` is the project's, with `-dirty` if the checkout is changed, or None outside one.
    """
    return {
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), **_installed_versions()},
        "git_commit": _git_commit(),
        "machine": {
            "cpu": _cpu_name(),
            "num_cores": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        },
    }


def _installed_versions() -> dict[str, str]:
    installed = {name.metadata["Name"].lower(): name.version for name in importlib.metadata.distributions()}
    return {package: installed[package] for package in PACKAGES if package in installed}


def _git_commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return git.stdout.strip() if git.returncode == 0 else None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
