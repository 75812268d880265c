"""The folder of configuration files, read without Hydra. Imports nothing heavy."""

from pathlib import Path

GROUPS = ("model", "dataset", "sparsifier", "growth", "optimizer", "recipe", "protocol", "budget", "logger")
SHORTHANDS = {"snapshots": "snapshots.enabled"}


def config_dir() -> Path:
    """The folder of configuration files: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent.parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def describe_groups() -> str:
    """The config groups and their options, one line per group, for the help of commands."""
    folder, lines = config_dir(), []
    for group in GROUPS:
        names = ", ".join(sorted(path.stem for path in (folder / group).glob("*.yaml")))
        lines.append(f"  {group:<11}{names}\n")
    return "".join(lines)
