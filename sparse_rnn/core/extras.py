"""The packages that only an extra brings. Imports nothing heavy."""

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

# Extras of their own, each with what needs it and the names that it brings.
OPTIONAL = {
    "onnx": ("format=onnx", frozenset({"onnx", "onnxruntime", "onnxscript"})),
    "tensorboard": ("logger=tensorboard", frozenset({"tensorboard"})),
    "mlflow": ("logger=mlflow", frozenset({"mlflow"})),
}


def missing_extra(error: BaseException, needed_by: str = "the commands") -> str | None:
    """What to do if an import failed for want of an extra; None for any other error."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    for extra, (user, imported) in OPTIONAL.items():
        if name in imported:
            return f"{name} is not installed, and {user} needs it: pip install 'sparse-rnn[{extra}]' brings it."
    if name not in IMPORTED:
        return None
    return f"{name} is not installed, and {needed_by} need it: pip install 'sparse-rnn[{EXTRA}]' brings it."
