"""The packages that only an extra brings. Imports nothing heavy."""

EXTRA = "experiments"
KERNELS = "kernels"  # a part of it, for the kernels alone
# Names as they are imported; a test compares them with pyproject.toml.
IMPORTED_FOR_KERNELS = frozenset({"filelock", "ninja", "rich", "setuptools"})
IMPORTED = IMPORTED_FOR_KERNELS | {
    "hydra",
    "hydra_plugins",
    "jinja2",
    "matplotlib",
    "pandas",
    "pooch",
    "pydantic",
    "requests",
    "safetensors",
    "scipy",
    "submitit",
    "wandb",
    "yaml",
}

# Extras of their own, each with what needs it and the names that it brings.
OPTIONAL = {
    "onnx": ("format=onnx", frozenset({"onnx", "onnxruntime", "onnxscript"})),
    "hub": ("a model of a hub", frozenset({"huggingface_hub"})),
    "tune": ("tune", frozenset({"optuna"})),
    "tensorboard": ("logger=tensorboard", frozenset({"tensorboard"})),
    "mlflow": ("logger=mlflow", frozenset({"mlflow"})),
}


def missing_extra(error: BaseException, needed_by: str = "the commands", extra: str = EXTRA) -> str | None:
    """What to do if an import failed for want of an extra; None for any other error.

    extra: the one that brings what `needed_by` need.
    """
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    for own, (user, imported) in OPTIONAL.items():
        if name in imported:
            return f"{name} is not installed, and {user} needs it: pip install 'sparse-rnn[{own}]' brings it."
    if name not in IMPORTED:
        return None
    return f"{name} is not installed, and {needed_by} need it: pip install 'sparse-rnn[{extra}]' brings it."
