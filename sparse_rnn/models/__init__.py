"""Recurrent networks; importing this package imports, and so registers, every module in it."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
