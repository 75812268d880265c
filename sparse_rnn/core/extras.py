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


ONNX = "onnx"  # an extra of its own, for `export format=onnx` alone
IMPORTED_FOR_ONNX = frozenset({"onnx", "onnxruntime", "onnxscript"})


TUNE = "tune"  # an extra of its own, for `launch tune` alone


def missing_extra(error: BaseException, needed_by: str = "the commands") -> str | None:
    """What to do if an import failed for want of an extra; None for any other error."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name in IMPORTED_FOR_ONNX:
        return f"{name} is not installed, and format=onnx needs it: pip install 'sparse-rnn[{ONNX}]' brings it."
    if name == "optuna":
        return f"optuna is not installed, and tune needs it: pip install 'sparse-rnn[{TUNE}]' brings it."
    if name not in IMPORTED:
        return None
    return f"{name} is not installed, and {needed_by} need it: pip install 'sparse-rnn[{EXTRA}]' brings it."
