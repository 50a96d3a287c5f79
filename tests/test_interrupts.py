import sys

import pytest

from chexnet_fast.interrupts import resume_hint


@pytest.mark.parametrize(
    ("command", "ranks", "hint"),
    [
        ("chexnet-fast train a b", None, "go on with: chexnet-fast train a b --resume"),
        ("chexnet-fast train a b --resume", None, "go on with: chexnet-fast train a b --resume"),
        (
            "chexnet_fast train a b",
            "2",
            "go on with: torchrun --nproc-per-node 2 -m chexnet_fast train a b --resume",
        ),
        ("chexnet-fast demo out", None, "start again in another folder, as only `chexnet-fast train` goes on"),
    ],
)
def test_the_hint_is_a_command_that_exists(
    monkeypatch: pytest.MonkeyPatch, command: str, ranks: str | None, hint: str
) -> None:
    monkeypatch.setattr(sys, "argv", command.split())
    if ranks is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert resume_hint() == hint
