"""Which failures roll a deployment back."""

from __future__ import annotations

import pytest

from assistant.api.metrics import ServiceMetrics, caller_is_identified
from assistant.domain.errors import AssistantError


@pytest.mark.parametrize(("identified", "counted"), [(True, 2), (False, 0)])
def test_only_failures_of_identified_callers_count_against_a_deployment(
    identified: bool, counted: int
) -> None:
    metrics = ServiceMetrics()
    token = caller_is_identified.set(identified)
    try:
        metrics.count_internal_error()
        metrics.refuse(AssistantError.code)
    finally:
        caller_is_identified.reset(token)
    assert metrics.internal_error_count() == counted
    caller = "identified" if identified else "anonymous"
    assert f'assistant_internal_errors_total{{caller="{caller}"}} 2.0' in metrics.text().decode()
