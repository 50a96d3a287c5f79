"""Pages: HTML from the templates, whole in one file, with every picture inside it."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from shards.files import whole_file


def write_page(path: Path, **content: Any) -> None:
    """Write the page that the template of the same name makes of its content; text is escaped.

    Raises:
        jinja2.UndefinedError: if the template asks for content that is not given.
    """
    environment = Environment(
        loader=PackageLoader("chexnet_fast"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(path.name).render(content)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def flatten(values: Mapping[str, Any]) -> dict[str, str]:
    """Write nested settings as text by dotted name: `{"a": {"b": 1}}` as `{"a.b": "1"}`."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{inner}": text for inner, text in flatten(value).items()})
        elif isinstance(value, list | tuple):
            flat[name] = ", ".join(map(str, value)) or "none"
        else:
            flat[name] = "none" if value is None else str(value)
    return flat


def data_uri(png: Path) -> str:
    """Return a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode("ascii")
