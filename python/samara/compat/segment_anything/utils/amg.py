"""Tools to find all masks of an image."""

from samara.compat._amg import *  # noqa: F403
from samara.compat._amg import __all__ as __all__
