"""Text from traces made harmless for a terminal."""

from __future__ import annotations


def plain(text: str) -> str:
    """`text` on one line, with every control and direction character written as its escape.

    Names in traces are what strangers wrote: an escape sequence in one must not reach a terminal.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
