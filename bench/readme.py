"""Write the README's measured tables from bench/results: `python -m bench.readme`."""

from pathlib import Path

from bench.codecs import format_codecs, read_codecs
from bench.pack import format_pack, read_pack
from bench.quality import format_quality, read_quality
from bench.rows import format_rows, read_rows
from bench.training_report import format_training_rows, read_training_rows

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
VERSIONS = (
    "torch",
    "timm",
    "pillow",
    "imagecodecs",
    "nvidia-dali-cuda110",
    "nvidia-dali-cuda120",
    "nvidia-dali-cuda130",
)
RESULTS = ROOT / "bench" / "results"


def loader_table(path: Path) -> str:
    """Return a machine's Markdown table: the reference, and the bytes that training takes; a picture has all."""
    rows, environment = read_rows(path)
    shown = [row for row in rows if row.family in ("reference", "pil") or row.note or row.dtype == "uint8"]
    picture = path.with_suffix(".png").relative_to(ROOT)
    return f"{describe(environment)}; [all outputs]({picture}):\n\n{format_rows(shown)}"


def training_table(path: Path) -> str:
    """Return a machine's Markdown table of ways to train."""
    rows, environment = read_training_rows(path)
    return f"{describe(environment)}:\n\n{format_training_rows(rows)}"


def codec_table(path: Path) -> str:
    """Return a machine's Markdown table of codecs."""
    rows, environment = read_codecs(path)
    return f"{rows[0].num_images:,} images; {describe(environment)}:\n\n{format_codecs(rows)}"


def pack_table(path: Path) -> str:
    """Return a machine's Markdown table of packing."""
    rows, environment = read_pack(path)
    measured = f"{rows[0].num_images:,} images, {rows[0].num_workers} processes"
    return f"{measured}; {describe(environment)}:\n\n{format_pack(rows)}"


def quality_table(path: Path) -> str:
    """Return a machine's Markdown table of what recipes and loaders learn."""
    rows, environment = read_quality(path)
    return f"{environment['num_images']:,} phantoms; {describe(environment)}:\n\n{format_quality(rows)}"


TABLES = {
    "loaders": loader_table,
    "training": training_table,
    "quality": quality_table,
    "pack": pack_table,
    "codecs": codec_table,
}
"""What makes a table of a results file, by the file's name and the README's marker."""


def describe(environment: dict) -> str:
    """Return a line about the machine and versions of a measurement."""
    machine, versions = environment["machine"], environment["versions"]
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    named = ", ".join(f"{name} {versions[name]}" for name in versions if name in VERSIONS)
    line = f"{machine['cpu']}, {machine['num_cores']} cores, {gpus}; {named}, {environment['date']}"
    return f"{line}. {environment['note']}" if "note" in environment else line


def with_tables(readme: str) -> str:
    """Return the README's text with the measured tables between their markers made anew."""
    for name, table in TABLES.items():
        begin, end = readme.index(f"<!-- {name} -->\n"), readme.index(f"<!-- /{name} -->")
        tables = "\n".join(map(table, sorted(RESULTS.glob(f"*/{name}*.jsonl"))))
        readme = f"{readme[:begin]}<!-- {name} -->\n{tables}{readme[end:]}"
    return readme


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
