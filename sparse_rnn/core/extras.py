"""The packages that only the extra `experiments` brings. Imports nothing heavy."""

EXTRA = "experiments"
# Names as they are imported; a test compares them with pyproject.toml.
IMPORTED = frozenset(
    {
        "filelock",
        "hydra",
        "hydra_plugins",
        "jinja2",
        "matplotlib",
        "ninja",
        "pandas",
        "pooch",
        "pydantic",
        "requests",
        "rich",
        "safetensors",
        "scipy",
        "setuptools",
        "submitit",
        "wandb",
        "yaml",
    }
)


def missing_extra(error: BaseException, needed_by: str = "the commands") -> str | None:
    """What to do if an import failed for want of the extra; None for any other error."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name not in IMPORTED:
        return None
    return f"{name} is not installed, and {needed_by} need it: pip install 'sparse-rnn[{EXTRA}]' brings it."
