"""Every way of spreading a job over ranks is replayed from its recording, communication included."""

from __future__ import annotations

from pathlib import Path

import pytest

import lumos

SUITE = Path(__file__).parents[2] / "validation" / "cpu"


@pytest.mark.parametrize("layout", ["base", "fsdp2", "tp2", "pp2"])
def test_a_layout_is_replayed_and_its_ranks_are_linked(layout: str) -> None:
    traces = lumos.load(SUITE / layout)
    assert "clock-unlinked" not in {finding.code for finding in traces.findings}
    for name in traces.steps:
        run = traces.replay(name)
        assert abs(run.error_pct) < 1.5, name
        for rank in run.figures.ranks:
            assert rank.replayed_breakdown.exposed_communication_ns > 0
