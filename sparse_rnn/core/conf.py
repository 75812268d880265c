"""The folder of configuration files, read without Hydra. Imports nothing heavy."""

from pathlib import Path

from sparse_rnn.core.errors import ConfigError, suggest

GROUPS = ("model", "dataset", "sparsifier", "growth", "optimizer", "recipe", "protocol", "budget", "logger")
SHORTHANDS = {"snapshots": "snapshots.enabled"}


def config_dir() -> Path:
    """The folder of configuration files: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent.parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def options(group: str) -> dict[str, Path]:
    """The files of a group by the names of its options, sorted."""
    return {path.stem: path for path in sorted((config_dir() / group).glob("*.yaml"))}


def find_file(group: str, name: str) -> Path:
    """The file of `group=name`; raises ConfigError naming near matches."""
    known = options(group)
    if name not in known:
        raise ConfigError(f"{group}={name} does not exist{suggest(name, known)}.")
    return known[name]


def describe_groups() -> str:
    """The config groups and their options, one line per group, for the help of commands."""
    folder, lines = config_dir(), []
    for group in GROUPS:
        names = ", ".join(sorted(path.stem for path in (folder / group).glob("*.yaml")))
        lines.append(f"  {group:<11}{names}\n")
    return "".join(lines)
