import sys

import pytest

from chexnet_fast.interrupts import resume_hint


@pytest.mark.parametrize(
    ("command", "variables", "hint"),
    [
        ("chexnet-fast train a b", {}, "go on with: chexnet-fast train a b --resume"),
        ("chexnet-fast train a b --resume", {}, "go on with: chexnet-fast train a b --resume"),
        (
            "chexnet_fast train a b",
            {"LOCAL_WORLD_SIZE": "2"},
            "go on with: torchrun --nproc-per-node 2 -m chexnet_fast train a b --resume",
        ),
        (
            "chexnet_fast train a b",
            {"LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "3"},
            "go on with: the same torchrun command on every node, with --resume",
        ),
        ("chexnet-fast demo out", {}, "start again in another folder, as only `chexnet-fast train` goes on"),
    ],
)
def test_the_hint_is_a_command_that_exists(
    monkeypatch: pytest.MonkeyPatch, command: str, variables: dict[str, str], hint: str
) -> None:
    monkeypatch.setattr(sys, "argv", command.split())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert resume_hint() == hint
