"""How templates are read and filled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

SETTINGS: Mapping[str, Any] = {
    "undefined": StrictUndefined,
    "trim_blocks": True,
    "lstrip_blocks": True,
    "keep_trailing_newline": True,
}


def html_templates(folder: Path) -> Environment:
    """The HTML templates of a folder; whatever is filled in is escaped."""
    return Environment(loader=FileSystemLoader(folder), autoescape=True, **SETTINGS)
