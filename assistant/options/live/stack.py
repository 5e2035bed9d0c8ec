"""Alarms on live systems, and their entries in a container's tenant file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from assistant.options.live.section import LiveReach, called, reach_of
from assistant.tenant import deployed_names
from stacks.observability.alarms import TenantAlarms
from stacks.options import OptionStacks
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import pascal_case

_SYSTEM_SECRET_OLD_DAYS = 90
"""Days after which a credential is too old: the usual bound of rotation rules. The system's owner rotates
it."""
_LEAST_CALLS = 5
"""Calls of a system in five minutes, below which the share of failures means nothing."""
_FAILED_PERCENT = 50
_UNUSABLE_RESPONSES = 3
"""Responses in a quarter of an hour; a system that works gives none."""


def _system_alarms(tenant_alarms: TenantAlarms, name: str, live: LiveReach) -> Iterator[cloudwatch.Alarm]:
    """Yield the alarms on one live system. Without calls there are no data and no alarm, as for a system that
    is switched off or a paused tenant."""
    part = pascal_case(name)
    system = tenant_alarms.metrics.system(name)
    calls = {
        "calls": system(deployed_names.LIVE_READS, minutes=5),
        "failed": system(deployed_names.LIVE_READS_FAILED, minutes=5),
    }
    share = cloudwatch.MathExpression(
        expression=f"IF(calls >= {_LEAST_CALLS}, 100 * failed / calls, 0)",
        using_metrics=calls,
        label=f"Failed calls of {name} (%)",
        period=cdk.Duration.minutes(5),
    )
    yield tenant_alarms.add("a-system-does-not-answer", share, _FAILED_PERCENT, periods=2, part=part)
    invalid = system(deployed_names.LIVE_READS_INVALID, minutes=15)
    yield tenant_alarms.add("a-system-answers-in-another-form", invalid, _UNUSABLE_RESPONSES, part=part)
    if live.whose == "context":  # one that decides by the agent refuses agents every day
        refused = system(deployed_names.LIVE_READS_NOT_ALLOWED, minutes=15)
        yield tenant_alarms.add(
            "a-system-answers-for-another-customer", refused, _UNUSABLE_RESPONSES, part=part
        )


class LiveStacks(OptionStacks):
    """Alarms and a container's entries of live systems."""

    def fill_in(self, tenant: DeployedTenant, data: dict[str, Any]) -> None:
        """Write the called systems, each with its connector in place of the file's path, into a container's
        tenant file, and the parameter of the key of pseudonyms.

        ``data``: the file's tables, changed in place.
        """
        data["live"]["pseudonyms"] = f"kms:{tenant.live_reads_secret_parameter}"
        if systems := [called(entry, secret=tenant.secret_of(entry)) for entry in tenant.callable_systems]:
            data["reach"] = systems

    def alarms(self, tenant_alarms: TenantAlarms) -> Iterator[cloudwatch.Alarm]:
        """Yield the alarms on live systems."""
        metrics = tenant_alarms.metrics
        if any(metrics.tenant.secret_of(entry) for entry in metrics.tenant.callable_systems):
            age = metrics.service(deployed_names.SYSTEM_CREDENTIAL_AGE, "Maximum", minutes=60)
            yield tenant_alarms.add("system-secret-old", age, _SYSTEM_SECRET_OLD_DAYS)
        for entry, live in reach_of(metrics.tenant.config):
            yield from _system_alarms(tenant_alarms, entry.name, live)
