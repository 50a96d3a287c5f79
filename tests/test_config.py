import dataclasses
from typing import Any

import pytest

from chexnet_fast import config as config_module
from chexnet_fast.config import RECIPES, reference
from pipelines.build import LOADERS
from shards.errors import UserError


def test_reference_is_the_published_training() -> None:
    config = reference()
    assert (config.optimizer, config.lr, config.momentum, config.weight_decay) == ("sgd", 0.01, 0.9, 1e-4)
    assert (config.batch_size, config.epochs, config.size, config.flip) == (16, 100, 224, 0.5)
    assert (config.lr_divisor, config.lr_patience, config.stop_patience) == (10, 1, 3)


def test_recipes_carry_their_names() -> None:
    assert {name: recipe().recipe for name, recipe in RECIPES.items()} == {name: name for name in RECIPES}


def test_every_loader_can_train() -> None:
    assert config_module.LOADERS == LOADERS


def test_reference_3_differs_in_the_division_alone() -> None:
    config = RECIPES["reference-3"]()
    assert config == dataclasses.replace(reference(), recipe="reference-3", lr_divisor=3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("optimizer", "adam"),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("lr_divisor", 0.5),
        ("lr_patience", 0),
        ("stop_patience", 0),
        ("flip", 1.5),
        ("size", 0),
        ("amp", "float8"),
        ("amp", "float16"),
        ("seed", -1),
        ("loader", "tf"),
        ("device", "tpu"),
        ("num_threads", 0),
        ("checkpoint_minutes", 0.0),
        ("schedule", "linear"),
        ("warmup_epochs", 100.0),
        ("blank", "most"),
        ("class_weights", "heavy"),
    ],
)
def test_a_bad_value_is_quoted_with_its_option(field: str, value: Any) -> None:
    config = dataclasses.replace(reference(), device="cpu")
    with pytest.raises(UserError) as error:
        dataclasses.replace(config, **{field: value})
    assert f"--{field.replace('_', '-')} must be" in str(error.value)
    assert repr(value) in str(error.value)
    assert "\n" not in str(error.value)
