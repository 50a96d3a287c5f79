from pathlib import Path

import pytest
import torch
from epochs import pack_codecs

SHARED_NIH = Path(__file__).resolve().parents[2] / "shared" / "nih"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "real" in item.keywords and not SHARED_NIH.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no {SHARED_NIH}"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))


@pytest.fixture(scope="session")
def nih() -> Path:
    """The folder of 200 real X-rays and NIH's label files; tests that use it are marked `real`."""
    return SHARED_NIH


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Shards of the same 40 images, by codec; whoever damages them takes a copy."""
    return pack_codecs(tmp_path_factory.mktemp("packed"))
