import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from chexnet_fast.config import reference
from chexnet_fast.model import ChexNet
from chexnet_fast.onnx_export import export_onnx
from chexnet_fast.rundir import RunDir, describe_run, start_run
from chexnet_fast.trained import load_run
from chexnet_fast.weights import save_weights
from shards.errors import UserError

FINDINGS = ("Mass", "Nodule", "Hernia")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    config = dataclasses.asdict(reference())
    prevalence = dict.fromkeys(FINDINGS, 0.1)
    start_run(folder, describe_run(config, FINDINGS, {"size": 64, "policy": {}, "prevalence": prevalence}), None)
    torch.manual_seed(0)
    save_weights(ChexNet(len(FINDINGS)), RunDir(folder).best, FINDINGS)
    return folder


@pytest.mark.slow
def test_onnxruntime_gives_the_evaluations_probabilities_for_any_batch(run: Path, tmp_path: Path) -> None:
    export_onnx(run, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    scorer = load_run(run, torch.device("cpu")).scorer().eval()
    random = np.random.default_rng(0)
    for num_images in (1, 5):
        images = random.integers(0, 256, (num_images, 1, 64, 64), dtype=np.uint8)
        (found,) = session.run(["probabilities"], {"images": images})
        with torch.inference_mode():
            expected = scorer(torch.from_numpy(images)).sigmoid().numpy()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["findings"]) == list(FINDINGS)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_without_onnxscript_the_extra_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"chexnet-fast\[onnx\]"):
        export_onnx(run, tmp_path / "model.onnx")
