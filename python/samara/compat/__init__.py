"""The packages that users of Segment Anything know, on Samara's engine.

``samara.compat.segment_anything`` and its neighbours have the names, arguments and results of the official packages.
Either import them under these names, or let :func:`install` lend them the official ones.

>>> import samara.compat
>>> samara.compat.install("segment_anything")  # doctest: +SKIP
>>> from segment_anything import SamPredictor, sam_model_registry  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType

__all__ = ["install"]


def install(*names: str) -> None:
    """Puts packages of :mod:`samara.compat` in the place of the official ones, for this process.

    Parameters
    ----------
    *names : str
        Packages, such as ``"segment_anything"``; without any, all that there are.

    Raises
    ------
    ValueError
        There is no such package.
    RuntimeError
        The official package is imported already. Nothing was changed.
    """
    offered = sorted(found.name for found in pkgutil.iter_modules(__path__) if found.ispkg)
    for name in names:
        if name not in offered:
            raise ValueError(f"{name}: not offered by samara.compat, which has {', '.join(offered)}")
    modules: dict[str, ModuleType] = {}
    for name in names or offered:
        modules |= _modules(name)
    for name, module in modules.items():
        if sys.modules.get(name, module) is not module:
            package = name.partition(".")[0]
            raise RuntimeError(
                f"{package}: the official package is imported already; call samara.compat.install before that"
            )
    sys.modules.update(modules)


def _modules(name: str) -> dict[str, ModuleType]:
    """A package with all that lies in it, by official names."""
    prefix = f"{__name__}."
    package = importlib.import_module(prefix + name)
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    inner = [importlib.import_module(module.name) for module in found]
    return {module.__name__.removeprefix(prefix): module for module in [package, *inner]}
