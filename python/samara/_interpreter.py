"""Refuses sub-interpreters, which the engine does not know; Python itself does this from 3.12 on."""

from __future__ import annotations

import sys

if sys.version_info < (3, 12):
    import _xxsubinterpreters  # type: ignore[import-not-found]

    if _xxsubinterpreters.get_current() != _xxsubinterpreters.get_main():
        raise ImportError("module samara does not support loading in subinterpreters")
