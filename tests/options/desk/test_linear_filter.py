"""The filter of patients' data does work that is linear in the length of a text."""

from __future__ import annotations

from assistant.options.desk.patients import PatientsDataFilter
from tests.unit.test_linear_patterns import RUNS, SAMPLED, worst

_LONGEST = 8_000
"""Characters: the recognisers cost 10 µs each."""


def test_the_filter_is_linear() -> None:
    assert worst(PatientsDataFilter().replace, RUNS[SAMPLED - 1 :: SAMPLED], longest=_LONGEST) == {}
