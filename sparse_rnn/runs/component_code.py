"""The code of a run's components, which may be a user's: kept in the record, no part of the run's identity."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sparse_rnn.config.schema import Run
from sparse_rnn.core.registry import choices, lookup, source_file

PACKAGE = Path(__file__).parent.parent
RULES = ("initial", "removal", "redistribution", "schedule")  # of the sparsifier, by the keys that name them


def component_code(run: Run) -> dict[str, dict[str, str | None]]:
    """By `group=name`, the file of each component's class, and its SHA-256; None where there is no file to read.

    A file of this package is named from the package on, so that a log can be published; a user's has its whole path.
    """
    return {
        name: {"file": _named(source_file(kind)), "sha256": _sha256(source_file(kind))}
        for name, kind in _components(run)
    }


def say_if_changed(record: Mapping[str, Any], run: Run, say: Callable[[str], object]) -> None:
    """Warn that components of a user have other code now than when the run of a record began."""
    before = record.get("environment", {}).get("code", {})
    now = {name: code for name, code in component_code(run).items() if _is_own(str(code["file"]))}
    if changed := [name for name in now if name in before and before[name].get("sha256") != now[name]["sha256"]]:
        say(
            f"warning: the code of {', '.join(changed)} has changed since this run began, which its id does not show: "
            "move its folder away to train it anew"
        )


def _is_own(file: str) -> bool:
    return not file.startswith(f"{PACKAGE.name}/")


def _named(file: str) -> str:
    path = Path(file)
    return path.relative_to(PACKAGE.parent).as_posix() if path.is_relative_to(PACKAGE) else file


def _components(run: Run) -> Iterator[tuple[str, type]]:
    for group in ("model", "dataset", "optimizer", "growth", "sparsifier"):
        component = getattr(run, group)
        yield f"{group}={component.name}", type(component)
    for rule in RULES:
        name = getattr(run.sparsifier, rule)
        if name in choices(rule):
            yield f"{rule}={name}", lookup(rule, name)


def _sha256(file: str) -> str | None:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return None
