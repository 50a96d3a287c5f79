import copy
import io
import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_nih import pack_tiny, write_nih
from torch import nn
from torchvision.models import densenet121

from chexnet_fast.import_weights import import_weights
from chexnet_fast.model import ChexNet
from chexnet_fast.rundir import RunDir, read_train_patients
from chexnet_fast.trained import load_run
from shards.errors import UserError
from shards.findings import NIH_FINDINGS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """reproduce-chexnet's model: torchvision's DenseNet-121 with a sigmoid at its end."""
    torch.manual_seed(0)
    model = densenet121(weights=None)
    model.classifier = nn.Sequential(nn.Linear(model.classifier.in_features, 14), nn.Sigmoid())
    return model.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def checkpoint(model: nn.Module) -> dict[str, Any]:
    """What reproduce-chexnet's `checkpoint` saves."""
    return {"model": model, "best_loss": 0.162, "epoch": 3, "rng_state": torch.get_rng_state(), "LR": 0.001}


def assert_same_outputs(run: Path, published: nn.Module, images: torch.Tensor) -> None:
    imported = load_run(run, CPU).model
    with torch.inference_mode():
        expected = published(imported.normalise(images).expand(-1, 3, -1, -1))
        torch.testing.assert_close(imported(images).sigmoid(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel])
def test_a_pickled_model_gives_the_same_outputs(
    published: nn.Module, images: torch.Tensor, tmp_path: Path, wrap: Any, zipped: bool
) -> None:
    torch.save(checkpoint(wrap(published)), tmp_path / "checkpoint", _use_new_zipfile_serialization=zipped)
    import_weights(tmp_path / "checkpoint", tmp_path / "run", None)
    assert_same_outputs(tmp_path / "run", published, images)


def test_a_state_dict_alone_gives_the_same_outputs(published: nn.Module, images: torch.Tensor, tmp_path: Path) -> None:
    torch.save({"state_dict": nn.DataParallel(published).state_dict()}, tmp_path / "checkpoint")
    import_weights(tmp_path / "checkpoint", tmp_path / "run", None)
    assert_same_outputs(tmp_path / "run", published, images)


class OldPickler(pickle.Pickler):
    """Pickles parameters as torch 0.3 did: the class, its tensor, and a state."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, nn.Parameter):
            return nn.Parameter, (value.data,), (True, False, OrderedDict())
        return NotImplemented


def test_names_and_parameters_of_old_versions_are_read(
    published: nn.Module, images: torch.Tensor, tmp_path: Path
) -> None:
    old = copy.deepcopy(published)
    for module in old.modules():
        for name in ("norm1", "norm2", "conv1", "conv2"):
            if name in module._modules:
                module._modules[f"{name[:4]}.{name[4]}"] = module._modules.pop(name)
        module._buffers.pop("num_batches_tracked", None)
    old_pickle = SimpleNamespace(__name__="pickle", Pickler=OldPickler, dump=pickle.dump)
    file = tmp_path / "checkpoint"
    torch.save(checkpoint(old), file, pickle_module=old_pickle, _use_new_zipfile_serialization=False)
    import_weights(file, tmp_path / "run", None)
    assert_same_outputs(tmp_path / "run", published, images)


class Malicious:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.touched}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_that_is_pickled_is_executed(published: nn.Module, tmp_path: Path, zipped: bool) -> None:
    touched = tmp_path / "touched"
    torch.save({"model": published, "LR": Malicious(touched)}, tmp_path / "evil", _use_new_zipfile_serialization=zipped)
    import_weights(tmp_path / "evil", tmp_path / "run", None)
    assert not touched.exists()
    torch.load(tmp_path / "evil", weights_only=False)
    assert touched.exists()  # so the file is as evil as the test believes


def test_the_run_folder_says_what_is_known(published: nn.Module, tmp_path: Path) -> None:
    torch.save(checkpoint(published), tmp_path / "checkpoint")
    import_weights(tmp_path / "checkpoint", tmp_path / "run", None)
    run = load_run(tmp_path / "run", CPU)
    assert (run.findings, run.size, run.train_patients) == (NIH_FINDINGS, 224, None)
    assert run.prevalence["Hernia"] == 144 / 78_468
    assert json.loads(RunDir(tmp_path / "run").config.read_text())["config"]["imported"] == str(tmp_path / "checkpoint")
    with pytest.raises(UserError, match="holds a run already"):
        import_weights(tmp_path / "checkpoint", tmp_path / "run", None)


def test_shards_give_prevalence_and_patients(published: nn.Module, tmp_path: Path) -> None:
    images, labels = write_nih(tmp_path)
    pack_tiny(tmp_path / "shards", images, labels)
    torch.save(published.state_dict(), tmp_path / "checkpoint")
    import_weights(tmp_path / "checkpoint", tmp_path / "run", tmp_path / "shards")
    patients = read_train_patients(tmp_path / "run")
    assert patients is not None and len(patients) == 14
    assert 0 < load_run(tmp_path / "run", CPU).prevalence["Hernia"] < 1


def test_every_tensor_that_does_not_fit_is_listed(published: nn.Module, tmp_path: Path) -> None:
    tensors = dict(published.state_dict())
    tensors["classifier.1.weight"] = torch.zeros(1)
    tensors["classifier.0.bias"] = torch.zeros(15)
    del tensors["features.conv0.weight"]
    torch.save(tensors, tmp_path / "checkpoint")
    with pytest.raises(UserError) as error:
        import_weights(tmp_path / "checkpoint", tmp_path / "run", None)
    assert "features.conv0.weight is missing" in str(error.value)
    assert "classifier.1.weight is unknown" in str(error.value)
    assert "classifier.bias is (15,), not (14,)" in str(error.value)
    assert not (tmp_path / "run").exists()


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "cannot be read"),
        (b"PK\x03\x04 and no more", "cannot be read"),
        (b"\x80\x02}q\x00X", "cannot be read"),
        (saved({"epoch": 3}), "epoch is no tensor"),
        (saved(torch.nn.ReLU()), "holds no model"),
        (saved([1, 2]), "holds no model"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        import_weights(tmp_path / "file", tmp_path / "run", None)
    assert str(tmp_path / "file") in str(error.value) and "\n" not in str(error.value)


def test_an_import_can_start_a_training(published: nn.Module, tmp_path: Path) -> None:
    from chexnet_fast.model import build_model

    torch.save(checkpoint(published), tmp_path / "checkpoint")
    import_weights(tmp_path / "checkpoint", tmp_path / "run", None)
    model = build_model(NIH_FINDINGS, pretrained=True, weights=RunDir(tmp_path / "run").best)
    assert isinstance(model, ChexNet)
    assert torch.equal(model.backbone.classifier.weight, published.classifier[0].weight)
