"""The README's measured tables are those of bench/results, and its commands exist."""

import re
import subprocess
import sys

from bench.readme import README, with_tables


def test_the_tables_are_made_from_the_committed_results():
    readme = README.read_text(encoding="utf-8")
    assert "| PIL DataLoader, originals |" in readme
    assert "| 224 | jpeg, quality 95 |" in readme
    assert with_tables(readme) == readme, "stale: run python -m bench.readme"


def test_its_commands_are_the_command_lines():
    named = set(re.findall(r"chexnet-fast ([a-z]+)", README.read_text(encoding="utf-8")))
    assert named
    for command in named:
        shown = subprocess.run([sys.executable, "-m", "chexnet_fast", command, "--help"], capture_output=True)
        assert shown.returncode == 0
