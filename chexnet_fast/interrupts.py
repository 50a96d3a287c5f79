"""SIGTERM and Ctrl-C as requests that training answers at its next step."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from chexnet_fast import distributed


class Interrupts:
    """The last of the signals received; 0 before the first."""

    def __init__(self) -> None:
        self.received = 0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; the handler that `listen` installs."""
        self.received = number


@contextmanager
def listen() -> Iterator[Interrupts]:
    """Note SIGTERM and SIGINT instead of dying from them; give the former handlers back at the end.

    Torchrun passes a signal on to ranks that the terminal may have told already: a second one changes nothing.
    """
    interrupts = Interrupts()
    before = {number: signal.signal(number, interrupts.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def resume_hint() -> str:
    """Say how to go on: with the train command and --resume; other commands that train, as the demo, start anew."""
    if sys.argv[1:2] != ["train"]:
        return "start again in another folder, as only `chexnet-fast train` goes on"
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1:
        return "go on with: the same torchrun command on every node, with --resume"
    num_ranks = distributed.num_local_ranks()
    start = f"torchrun --nproc-per-node {num_ranks} -m chexnet_fast" if num_ranks > 1 else "chexnet-fast"
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return f"go on with: {start} {shlex.join([*arguments, '--resume'])}"
