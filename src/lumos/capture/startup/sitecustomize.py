"""Loaded by every Python that `lumos capture` starts: waits for PyTorch, then lets lumos follow it.

Nothing here may disturb a program, whatever Python runs it: no import but the standard library's
until torch is imported, no failure that is not caught, and another sitecustomize has its turn.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


class _BehindTorch:
    """A finder of modules that has a word when `torch` has been imported."""

    def __init__(self) -> None:
        self._asking = False

    def find_spec(self, name: str, *_: Any) -> Any:
        """The module torch as others find it, with our word behind its loading."""
        if name != "torch" or self._asking:
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking = False
        loader = None if spec is None else spec.loader
        if loader is not None:
            load = loader.exec_module

            def load_and_follow(module: Any) -> None:
                load(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)  # type: ignore[arg-type]
                _follow()

            loader.exec_module = load_and_follow  # type: ignore[method-assign]
        return spec


def _follow() -> None:
    try:
        _load_lumos()
        from lumos.capture.unmodified import follow

        follow()
    except Exception as error:
        ours = hasattr(error, "exit_code")  # a LumosError, which may not be there to be named
        reason = str(error) if ours else f"{type(error).__name__}: {error}"
        print(f"lumos: nothing is recorded: {reason}", file=sys.stderr)


def _load_lumos() -> None:
    """Our own lumos and nothing beside it: other packages there may be of another Python."""
    if "lumos" in sys.modules:
        return
    root = _HERE.parent.parent
    spec = importlib.util.spec_from_file_location(
        "lumos", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no lumos in {root}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["lumos"] = module
    spec.loader.exec_module(module)


def _next_sitecustomize() -> None:
    """The one that Python would have loaded without us."""
    elsewhere = [place for place in sys.path if Path(place).resolve() != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.get("LUMOS_CAPTURE"):
    sys.meta_path.insert(0, _BehindTorch())  # type: ignore[arg-type]
_next_sitecustomize()
