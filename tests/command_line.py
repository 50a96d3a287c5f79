"""Commands run in the test's own process."""

import sys

import pytest

from chexnet_fast import cli


def run(*arguments: object) -> int:
    """Run a command in this process; return its exit status."""
    before, sys.argv = sys.argv, ["chexnet-fast", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def expect_error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must end with status 2; return its last line on standard error, the error's only one."""
    capsys.readouterr()
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.startswith("chexnet-fast: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("chexnet-fast: ")
    return lines[-1]
