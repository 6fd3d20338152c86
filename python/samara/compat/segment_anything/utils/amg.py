"""Tools to find all masks of an image."""

from samara.compat._amg import *  # noqa: F403
