"""The colours of pages and figures, light and dark: few, calm, told apart by colour-blind readers.

The hues of what runs are those of Okabe and Ito (*Color Universal Design*, 2008,
https://jfly.uni-koeln.de/color/), moved in lightness until each stands out from its ground.
"""

from __future__ import annotations

from typing import NamedTuple


class Colour(NamedTuple):
    """A colour by what it is for, in the light theme and in the dark one."""

    name: str
    light: str
    dark: str


GROUNDS = (
    Colour("ground", "#f7f7f4", "#14171b"),
    Colour("sheet", "#ffffff", "#1c2026"),
    Colour("sunken", "#f1f1ed", "#252a31"),
)
"""What things lie on."""

INKS = (
    Colour("ink", "#1d2127", "#e8eaed"),
    Colour("quiet", "#59616b", "#a2abb6"),
    Colour("link", "#005a96", "#7cc0f2"),
    Colour("good", "#1a6b46", "#6ecf9e"),
    Colour("fair", "#7d5200", "#e5b45c"),
    Colour("poor", "#a8321c", "#ff9c84"),
)
"""What is written: each reads on every ground."""

FILLS = (
    Colour("compute", "#0072b2", "#3d9bdc"),
    Colour("overlapped", "#7a5195", "#b48ad1"),
    Colour("transfer", "#b95100", "#ee8434"),
    Colour("wait", "#e3a857", "#a8713a"),
    Colour("copy", "#2f9e8f", "#4fc0af"),
    Colour("host", "#7f8b9a", "#8f9bab"),
    Colour("call", "#a9b3bf", "#667180"),
    Colour("pause", "#dedacb", "#3b3a35"),
    Colour("idle", "#d3d5d6", "#444b54"),
    Colour("over", "#b95100", "#ee8434"),
    Colour("under", "#0072b2", "#3d9bdc"),
    Colour("path", "#111418", "#ffffff"),
    Colour("rule", "#deded8", "#343b44"),
)
"""What is drawn: always with a word beside it, never told by colour alone."""

PALETTE = GROUNDS + INKS + FILLS
