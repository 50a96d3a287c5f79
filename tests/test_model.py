import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms import Compose, Normalize, ToTensor

from chexnet_fast.model import ChexNet, FlipAveraged, build_model
from chexnet_fast.weights import load_weights, read_findings, save_weights
from pipelines.spec import IMAGENET_MEAN, IMAGENET_STD
from shards.errors import UserError

FINDINGS = ("Mass", "Nodule")


@pytest.fixture(scope="module")
def model() -> ChexNet:
    torch.manual_seed(0)
    return ChexNet(len(FINDINGS)).eval()


@pytest.fixture
def weights(model: ChexNet, tmp_path: Path) -> Path:
    save_weights(model, tmp_path / "best.safetensors", FINDINGS)
    return tmp_path / "best.safetensors"


def test_every_grey_level_is_normalised_as_torchvision_does(model: ChexNet) -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(16, 16)
    torchvision = Compose([ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    expected = torchvision(Image.fromarray(levels.numpy()).convert("RGB"))
    assert torch.equal(model.normalise(levels.view(1, 1, 16, 16))[0], expected)


def test_normalised_input_passes_unchanged(model: ChexNet) -> None:
    images = torch.randn(2, 3, 64, 64)
    assert model.normalise(images) is images


def test_logits_follow_from_the_features_and_the_classifier(model: ChexNet) -> None:
    images = torch.randint(0, 256, (2, 1, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        features = model.features(images)
        logits = model(images)
        assert torch.allclose(model.backbone.classifier(features.mean((2, 3))), logits, atol=1e-6)
    assert features.shape == (2, 1024, 3, 3)
    assert features.min() == 0
    assert logits.shape == (2, len(FINDINGS))


def test_flip_averaged_is_the_mean_over_mirror_images(model: ChexNet) -> None:
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        averaged = FlipAveraged(model)(images)
        assert torch.equal(averaged, (model(images) + model(images.flip(3))) / 2)
        assert torch.allclose(averaged, FlipAveraged(model)(images.flip(3)))


def test_first_weights_are_a_function_of_the_seed(model: ChexNet) -> None:
    torch.manual_seed(0)
    again = build_model(FINDINGS, pretrained=False)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_weights_come_back_as_they_were_saved(model: ChexNet, weights: Path) -> None:
    again = build_model(FINDINGS, pretrained=True, weights=weights)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert read_findings(weights) == FINDINGS


def test_equal_weights_are_equal_bytes(model: ChexNet, weights: Path, tmp_path: Path) -> None:
    save_weights(model, tmp_path / "again.safetensors", FINDINGS)
    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()


def test_imagenet_weights_that_cannot_be_had_name_the_two_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"--weights FILE.*--no-pretrained"):
        build_model(FINDINGS, pretrained=True)


def test_weights_for_other_findings_are_refused(model: ChexNet, weights: Path) -> None:
    with pytest.raises(UserError, match=r"predicts Mass, Nodule, not Nodule, Mass"):
        load_weights(model, weights, ("Nodule", "Mass"))


def test_every_missing_unknown_and_misshapen_tensor_is_listed(model: ChexNet, weights: Path, tmp_path: Path) -> None:
    tensors = load_file(weights)
    tensors["backbone.extra"] = torch.zeros(1)
    tensors["backbone.classifier.bias"] = torch.zeros(14)
    del tensors["backbone.features.conv0.weight"]
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad, {"chexnet-fast": json.dumps({"format": 1, "findings": FINDINGS})})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights(model, bad, FINDINGS)
    assert "backbone.features.conv0.weight is missing" in str(error.value)
    assert "backbone.extra is unknown" in str(error.value)
    assert "backbone.classifier.bias is (14,), not (2,)" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "not of this project"),
        ({"chexnet-fast": json.dumps({"format": 99, "findings": FINDINGS})}, "format 99"),
    ],
)
def test_foreign_safetensors_are_refused(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    file = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(1)}, file, metadata)
    with pytest.raises(UserError, match=message):
        read_findings(file)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_unreadable_weights_are_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "broken.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.safetensors"):
        read_findings(file)
