"""The red flags of the shipped tenants with the packaged model, on messages that nobody tuned on."""

from __future__ import annotations

from pathlib import Path

from tools.measure_red_flags import HELD_OUT, outcomes, read_messages


def test_red_flags_are_raised_as_often_as_docs_red_flags_says(tmp_path: Path) -> None:
    found = outcomes(read_messages(HELD_OUT, split="held_out"), folder=tmp_path)

    raised = [bool(names) for flag, names in found if flag is not None]
    false = [bool(names) for flag, names in found if flag is None]
    assert (len(raised), len(false)) == (60, 300)
    assert sum(raised) >= 51, "52 were measured; 57 (95 %) are asked"
    assert sum(false) <= 4, "3 were measured; 6 (2 %) are asked"
