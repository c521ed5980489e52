"""The picture of the first page: what `lumos replay` prints, as an SVG.

    python -m tests.docs.picture PATH... > docs/images/replay.svg

The committed one is of rank 1 of `recsys-2xV100` (docs/accuracy.md says where it is from).
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

import lumos
from lumos.report.text.replay import replay_report

WIDTH = 82
THEME = TerminalTheme(
    (252, 252, 250),
    (36, 41, 47),
    [
        (36, 41, 47), (190, 40, 45), (20, 125, 60), (154, 103, 0),
        (9, 105, 218), (130, 80, 223), (10, 120, 140), (87, 96, 106),
    ],
)  # fmt: skip
# Rich's own format without the fonts that it loads from the network
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
        font-variant-east-asian: full-width;
    }}
    .{unique_id}-title {{ font-size: 18px; font-family: sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


def picture(paths: list[str]) -> str:
    """The report of replaying `paths`, as SVG."""
    traces = lumos.load([Path(path) for path in paths])
    figures = [run.figures for run in traces.replays()]
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), highlight=False, markup=False,
        emoji=False, color_system=None,
    )  # fmt: skip
    console.print(Text("$ lumos replay traces/\n", "bold"))
    console.print(replay_report(traces.job.placement, figures, [], traces.findings), crop=False)
    console.print()
    drawn = console.export_svg(
        title="lumos replay", theme=THEME, code_format=FORMAT, unique_id="lumos"
    )
    return drawn.replace("rgba(255,255,255,0.35)", "#d0d7de")  # a frame seen on white too


if __name__ == "__main__":
    sys.stdout.write(picture(sys.argv[1:]))
