"""Write the README's measured tables from bench/results: `python -m bench.readme`."""

from pathlib import Path

from bench.codecs import format_codecs, read_codecs
from bench.rows import format_rows, read_rows
from bench.training_report import format_training_rows, read_training_rows

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
VERSIONS = ("torch", "timm", "pillow", "nvidia-dali-cuda110", "nvidia-dali-cuda120", "nvidia-dali-cuda130")
RESULTS = ROOT / "bench" / "results"


def loader_tables() -> str:
    """Return a Markdown table for each machine: the reference, and the bytes that training takes; a picture has all."""
    parts = []
    for path in sorted(RESULTS.glob("*/loaders.jsonl")):
        rows, environment = read_rows(path)
        shown = [row for row in rows if row.family in ("reference", "pil") or row.note or row.dtype == "uint8"]
        picture = path.with_suffix(".png").relative_to(ROOT)
        parts.append(f"{describe(environment)}; [all outputs]({picture}):\n\n{format_rows(shown)}")
    return "\n".join(parts)


def codec_tables() -> str:
    """Return a Markdown table for each machine under bench/results, with a line that describes the machine."""
    parts = []
    for path in sorted(RESULTS.glob("*/codecs.jsonl")):
        rows, environment = read_codecs(path)
        parts.append(f"{rows[0].num_images:,} images; {describe(environment)}:\n\n{format_codecs(rows)}")
    return "\n".join(parts)


def training_tables() -> str:
    """Return a Markdown table for each machine under bench/results, with a line that describes the machine."""
    parts = []
    for path in sorted(RESULTS.glob("*/training.jsonl")):
        rows, environment = read_training_rows(path)
        parts.append(f"{describe(environment)}:\n\n{format_training_rows(rows)}")
    return "\n".join(parts)


TABLES = {"loaders": loader_tables, "training": training_tables, "codecs": codec_tables}


def describe(environment: dict) -> str:
    """Return a line about the machine and versions of a measurement."""
    machine, versions = environment["machine"], environment["versions"]
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    named = ", ".join(f"{name} {versions[name]}" for name in versions if name in VERSIONS)
    line = f"{machine['cpu']}, {machine['num_cores']} cores, {gpus}; {named}, {environment['date']}"
    return f"{line}. {environment['note']}" if "note" in environment else line


def with_tables(readme: str) -> str:
    """Return the README's text with the measured tables between their markers made anew."""
    for name, tables in TABLES.items():
        begin, end = readme.index(f"<!-- {name} -->\n"), readme.index(f"<!-- /{name} -->")
        readme = f"{readme[:begin]}<!-- {name} -->\n{tables()}{readme[end:]}"
    return readme


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
