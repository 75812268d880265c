"""Modules of users, whose components register themselves by name when they are imported.

They are named by the variable SPARSE_RNN_PLUGINS, separated by commas, or by entry points of installed packages in the
group `sparse_rnn.plugins`. Only the registry imports them, when somebody looks for a component: what they import may
take seconds.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from sparse_rnn.core.errors import ConfigError

PLUGINS = "SPARSE_RNN_PLUGINS"
ENTRY_POINTS = "sparse_rnn.plugins"

_begun: set[str] = set()  # modules that are imported, or being imported: a plugin may look for components itself


def load_plugins() -> None:
    """Import every plugin that has not been imported yet; raises ConfigError naming the one that fails, and why."""
    for name, origin in {**_installed(), **_named()}.items():
        if name not in _begun:
            _begun.add(name)
            try:
                _import(name, origin)
            except BaseException:
                _begun.remove(name)
                raise


def look_here() -> None:
    """Let Python look for modules in the current folder, as an installed command does not."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def plugin_files() -> Iterator[Path]:
    """The Python files in the folder of every plugin, or below it for one in a package, found without importing any."""
    for name in {**_installed(), **_named()}:
        top = name.partition(".")[0]
        with suppress(ImportError, ValueError):  # whoever imports it has the sentence for what is wrong
            spec = find_spec(top) or PathFinder.find_spec(top, [os.getcwd()])
            for folder in (spec and spec.submodule_search_locations) or ():
                yield from filter(Path.is_file, Path(folder).rglob("*.py"))
            if spec and spec.origin and not spec.submodule_search_locations:
                yield from filter(Path.is_file, Path(spec.origin).parent.glob("*.py"))


def named_files() -> list[str]:
    """Each module that SPARSE_RNN_PLUGINS names, with its file in brackets where it has one."""
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in _named()}
    return [f"{name} ({file})" if file else name for name, file in files.items()]


def _named() -> dict[str, str]:
    """Modules of the variable, and where each is named."""
    words = [word.strip() for word in os.environ.get(PLUGINS, "").split(",")]
    return {word: PLUGINS for word in words if word}


@cache
def _installed() -> dict[str, str]:
    """Modules of entry points, and where each is named."""
    found = entry_points(group=ENTRY_POINTS)
    return {each.module: f"an entry point of {each.dist.name if each.dist else 'a package'}" for each in found}


def _import(name: str, origin: str) -> None:
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"{PLUGINS} names modules, separated by commas, and {name} is none: write my_rules for my_rules.py."
        )
    look_here()
    try:
        import_module(name)
    except (Exception, SystemExit) as error:
        reason = _reason(name, error)
        raise ConfigError(f"The plugin {name}, named by {origin}, cannot be imported ({reason}).") from error


def _reason(name: str, error: BaseException) -> str:
    """What went wrong, and in which line of the plugin."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        return f"there is no module {error.name} in the current folder, on PYTHONPATH or installed"
    if isinstance(error, ConfigError):
        return str(error).rstrip(".")
    said = f"{type(error).__name__}: {error}".strip().rstrip(":.")
    if isinstance(error, SyntaxError):
        return said
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{said}, at {frame.filename}:{frame.lineno}"
