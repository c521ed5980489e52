"""What has to be done in a thread before it is gone."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

_HELD = threading.local()


class EndOfThread:
    """Calls `word` when the thread that made this one ends, in that thread; the main one, at exit.

    Python lets go of what a thread holds for itself while that thread still runs.
    """

    def __init__(self, word: Callable[[], None]) -> None:
        self._word = word
        if threading.current_thread() is threading.main_thread():
            atexit.register(word)
        else:
            _words()[self] = _LastWord(word)

    def cancel(self) -> None:
        """It needs no word any more; to be called in the same thread."""
        atexit.unregister(self._word)
        if last := _words().pop(self, None):
            last.word = None


def _words() -> dict[EndOfThread, _LastWord]:
    """Those of this thread."""
    if not hasattr(_HELD, "words"):
        _HELD.words = {}
    words: dict[EndOfThread, _LastWord] = _HELD.words
    return words


class _LastWord:
    """Speaks when nobody holds it any more."""

    def __init__(self, word: Callable[[], None]) -> None:
        self.word: Callable[[], None] | None = word

    def __del__(self) -> None:
        if self.word is not None:
            self.word()
