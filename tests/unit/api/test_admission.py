from __future__ import annotations

import pytest

from assistant.api.limits import Admission
from assistant.domain.errors import OverloadedError


def test_an_agent_over_their_share_is_told_when_to_return() -> None:
    admission = Admission(streams=10, streams_per_agent=2)
    admission.enter("ann")
    admission.enter("ann")
    with pytest.raises(OverloadedError) as refused:
        admission.enter("ann")
    assert refused.value.retry_after_s
    admission.enter("bob")


def test_a_full_process_refuses_everybody() -> None:
    admission = Admission(streams=1, streams_per_agent=2)
    admission.enter("ann")
    with pytest.raises(OverloadedError):
        admission.enter("bob")


def test_a_place_is_given_back_once() -> None:
    admission = Admission(streams=2, streams_per_agent=2)
    leave = admission.enter("ann")
    admission.enter("bob")
    leave()
    leave()
    assert admission.active == 1
    admission.enter("ann")
    with pytest.raises(OverloadedError):
        admission.enter("ann")
