"""Where configuration files lie: the built-in folder, and those of users. Read without Hydra; imports nothing heavy.

Whatever reads or lists files of the configuration asks here, so that all of it knows the same ones.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from sparse_rnn.core.errors import ConfigError, suggest

GROUPS = ("model", "dataset", "sparsifier", "growth", "optimizer", "recipe", "protocol", "budget", "logger")
OPTIONAL_GROUPS = ("size", "tuning", "pairing", "excerpt")
NOT_OF_A_RUN = ("cluster", "table", "figure")  # folders that do not change what the overrides of a run mean
PRIMARY = ("config.yaml", "launch.yaml")
SHORTHANDS = {"snapshots": "snapshots.enabled"}
SEARCH_PATH = "SPARSE_RNN_CONF"  # the variable; --config-dir and hydra.searchpath put their folders into it


def config_dir() -> Path:
    """The built-in folder of configuration files: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent.parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def search_path() -> tuple[Path, ...]:
    """The folders of configuration files, absolute, in the order in which they are searched: the built-in one first.

    Raises ConfigError for a folder that does not exist, and for a file with the name of one in another folder.
    """
    folders = _folders()
    _refuse_shadows(folders)
    return folders


def _folders() -> tuple[Path, ...]:
    given = [os.path.abspath(os.path.expanduser(folder)) for folder in own_folders()]
    for folder in given:
        if not os.path.isdir(folder):
            raise ConfigError(f"{folder}, which {SEARCH_PATH} or --config-dir names, is not a folder.")
    different: dict[str, Path] = {}
    for folder in (str(config_dir()), *given):
        different.setdefault(os.path.realpath(folder), Path(folder))
    return tuple(different.values())


def own_folders() -> list[str]:
    """The folders of users, as SPARSE_RNN_CONF has them."""
    return [folder for folder in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if folder]


def options(group: str) -> dict[str, Path]:
    """The files of a group by the names of its options, sorted; `reduced/rhn` for size/reduced/rhn.yaml."""
    found: dict[str, Path] = {}
    for folder in search_path():
        found |= _files(folder, group)
    return dict(sorted(found.items()))


def files_of_runs() -> list[Path]:
    """Every file that may change what the overrides of a run mean, sorted; raises ConfigError."""
    found = {path for group in (*GROUPS, *OPTIONAL_GROUPS) for path in options(group).values()}
    for folder in search_path():  # whose groups of the user's own are one level deep: a whole home may lie below
        found |= {*folder.glob("*.yaml"), *folder.glob("*/*.yaml")}
    return sorted(path for path in found if path.parent.name not in NOT_OF_A_RUN and _counts(path))


def is_group(name: str) -> bool:
    """Whether a folder of that name holds configuration files."""
    return any((folder / name).is_dir() for folder in _folders())


def unknown(name: str, known: Iterable[str]) -> str:
    """For the end of an error sentence, in brackets: names like one that does not exist, or where else it may lie."""
    hint = suggest(name, known)
    if own_folders() or "did you mean" in hint:
        return hint
    own = f"for a file of your own, name its folder in {SEARCH_PATH} or by --config-dir"
    return f"{hint[:-1]}; {own})" if hint else f" ({own})"


def find_file(group: str, name: str, *, key: str = "") -> Path:
    """The file of `group=name`; raises ConfigError naming near matches. key: what the user calls the group."""
    known = options(group)
    if name not in known:
        raise ConfigError(f"{key or group}={name} does not exist{unknown(name, known)}.")
    return known[name]


def describe_groups() -> str:
    """The config groups and their options, one line per group, for the help of commands."""
    return "".join(f"  {group:<11}{', '.join(options(group))}\n" for group in GROUPS)


def _files(folder: Path, group: str) -> dict[str, Path]:
    root = folder / group
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in root.rglob("*.yaml") if _counts(path)}


def _counts(path: Path) -> bool:
    """Whether it is a file of the user's: editors leave others, and links to nothing, whose names begin with a dot."""
    return not path.name.startswith(".") and path.is_file()


def _refuse_shadows(folders: tuple[Path, ...]) -> None:
    """Hydra would take the first of two files of one name, without a word."""
    groups = (*GROUPS, *OPTIONAL_GROUPS, *NOT_OF_A_RUN)
    for number, folder in enumerate(folders[1:], 1):
        own = [path for group in groups for path in _files(folder, group).values()]
        for path in [*own, *(folder / name for name in PRIMARY if (folder / name).exists())]:
            for other in (earlier / path.relative_to(folder) for earlier in folders[:number]):
                if other.exists():
                    raise ConfigError(f"{path} has the name of {other}: rename it.")
