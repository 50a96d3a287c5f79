"""A line of the loader report, and its files."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.measure import Rate
from shards.files import whole_file


@dataclass(frozen=True)
class Row:
    """A loader, what it read, what it yielded, and its rate.

    Args:
        family: "reference", "pil", "ours", "peer" or "limit".
        loader: its name.
        codec: the shards' codec; None if it read no shards.
        size: the shards' size in pixels; None for the original's.
        channels: of the output, 1 or 3; None if it was not measured, like all that follows.
        dtype: of the output.
        rate: images per second.
        ratio: the median over the reference's.
        share: the median over that of copying the same output's bytes, 0 to 1.
        note: why it was not measured; empty if it was.
    """

    family: str
    loader: str
    codec: str | None = None
    size: int | None = None
    channels: int | None = None
    dtype: str | None = None
    rate: Rate | None = None
    ratio: float | None = None
    share: float | None = None
    note: str = ""

    @property
    def output(self) -> str:
        """The batches' pixels as a person writes them, such as "grey uint8"."""
        return f"{'RGB' if self.channels == 3 else 'grey'} {self.dtype}"

    @property
    def input(self) -> str:
        """What was read as a person writes it, such as "jpeg 256"."""
        if self.codec is None:
            return "" if self.family == "limit" else "files"
        return f"{self.codec} {self.size or 'original'}"


def write_rows(rows: Sequence[Any], environment: dict[str, Any], path: Path) -> None:
    """Write rows, of any dataclass, as JSON, one a line, each with the environment that it was measured in."""
    lines = [json.dumps({**asdict(row), "environment": environment}) + "\n" for row in rows]
    with whole_file(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def read_values(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Read what `write_rows` wrote: the values of each row, and their environment."""
    values = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    environment = [value.pop("environment") for value in values][0]
    return values, environment


def read_rows(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Read the loader report's rows, and their environment."""
    values, environment = read_values(path)
    rates = [value.pop("rate") for value in values]
    rows = [Row(**value, rate=rate and Rate(**rate)) for value, rate in zip(values, rates, strict=True)]
    return rows, environment


def format_rows(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| loader | reads | yields | img/s (95 % interval) | ratio | of the limit |",
        "|---|---|---|--:|--:|--:|",
    ]
    return "\n".join([*lines, *map(_format_row, rows)]) + "\n"


def _format_row(row: Row) -> str:
    return f"| {' | '.join(row_cells(row))} |"


def row_cells(row: Row) -> tuple[str, ...]:
    """Return a row as text: loader, what it reads and yields, rate with interval, ratio and share of the limit."""
    if row.rate is None or row.ratio is None or row.share is None:
        return row.loader, "", "", row.note, "", ""
    rate = f"{row.rate.median:,.0f} ({row.rate.low:,.0f} - {row.rate.high:,.0f})"
    share = f"{row.share:.1%}" if row.share < 0.1 else f"{row.share:.0%}"
    return row.loader, row.input, row.output, rate, f"{row.ratio:,.1f}", share
