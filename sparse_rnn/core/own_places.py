"""The folders of configuration files that a command line names, and the place of plugins, kept in the environment.

There the processes that the command starts find them, on whichever machine and in whichever folder they work.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec

from sparse_rnn.core.conf import SEARCH_PATH, own_folders
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.plugins import PLUGINS, look_here

OPTIONS = ("--config-dir", "-cd")  # as Hydra has them
KEY = "hydra.searchpath"


def keep_places(arguments: Sequence[str]) -> list[str]:
    """The arguments without --config-dir and hydra.searchpath, whose folders now stand in SPARSE_RNN_CONF.

    Its folders become absolute. If SPARSE_RNN_PLUGINS names modules, the current folder joins PYTHONPATH. Raises
    ConfigError.
    """
    folders, others, rest = own_folders(), list[str](), list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument.partition("=")
        if key in OPTIONS:
            value = value if equals else rest.pop(0) if rest else ""
            if not os.path.isdir(os.path.expanduser(value)):
                what = value or "names nothing, which"
                raise ConfigError(f"{key} {what} is not a folder: name one with config groups.")
            folders.append(value)
        elif equals and key.lstrip("+") == KEY:
            folders += _listed(argument.lstrip("+"))
        else:
            others.append(argument)
    if folders:
        os.environ[SEARCH_PATH] = os.pathsep.join(map(_absolute, folders))
    if os.environ.get(PLUGINS):
        modules = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), os.getcwd()]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(modules))
    return others


def _absolute(folder: str) -> str:
    path = os.path.abspath(os.path.expanduser(folder))
    if os.pathsep in path:
        raise ConfigError(
            f"{path} has {os.pathsep!r} in its path, which separates the folders of {SEARCH_PATH}: rename it."
        )
    return path


def _listed(override: str) -> list[str]:
    """The folders of an override like `hydra.searchpath=[my,pkg://lab.conf]`; raises ConfigError."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # no other argument needs Hydra's grammar
    from hydra.errors import HydraException

    try:
        listed = OverridesParser.create().parse_override(override).value()
    except HydraException:
        listed = None
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise ConfigError(f"{override} must be a list of folders, as in '{KEY}=[my]'.")
    return [_folder(each) for each in listed]


def _folder(place: str) -> str:
    """The folder of `folder`, `file://folder` or `pkg://package.of.it`; raises ConfigError."""
    scheme, found, rest = place.partition("://")
    if not found or scheme == "file":
        return rest if found else place
    look_here()
    try:
        spec = find_spec(rest.strip("/").replace("/", ".")) if scheme == "pkg" else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"{KEY}: {place} cannot be found: name a folder, or pkg:// and a package that is installed.")
    return next(iter(spec.submodule_search_locations))
