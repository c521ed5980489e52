"""Where lines of text may be broken, and where a label is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from lumos.report.text.house import label_text, spaced, table
from lumos.report.text.wrapping import Sentences
from tests.report.test_text import text_of


@pytest.mark.parametrize("width", range(14, 40))
def test_a_number_and_its_unit_stay_on_one_line(width: int) -> None:
    words = "It takes 97.4 % of 3.46 ms, 12 GB at 25 GB/s and 3 steps of 1 rank."
    lines = text_of(spaced([Sentences(words)]), width).splitlines()
    assert " ".join(lines) == words
    assert not {"97.4", "3.46", "12", "25"} & {line.rpartition(" ")[2] for line in lines}


@given(st.lists(st.text("ab1 %", min_size=1, max_size=8)), st.integers(20, 60))
def test_nothing_but_breaks_is_changed(words: list[str], width: int) -> None:
    text = " ".join(" ".join(words).split())
    assert " ".join(text_of(spaced([Sentences(text)]), width).split()) == text


def test_styles_stay_where_they_are() -> None:
    sentence = Sentences.assemble("all of ", ("5 ms", "bold"), " are free")
    assert isinstance(sentence, Sentences)
    (line,) = sentence.wrap(None, 80)  # type: ignore[arg-type]
    assert [line.plain[span.start : span.end] for span in line.spans] == ["5 ms"]


@pytest.mark.parametrize("width", [40, 30, 24])
def test_labels_that_are_cut_can_be_told_apart(width: int) -> None:
    drawn = table("")
    drawn.add_column("")
    drawn.add_column("", min_width=8)
    for number in (15811, 15812):
        drawn.add_row(label_text(f"gloo worker of a thread {number}"), Text("words " * 9))
    lines = text_of(drawn, width).splitlines()
    assert any("15811" in line for line in lines)
    assert any("15812" in line for line in lines)
    assert sum("…" in line for line in lines) == 2
    assert all(len(line) <= width for line in lines)
