"""Who may open a connection to whom in the tenant's VPC: one table, from which every rule of every security
group is made. What does not stand here cannot be reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from assistant.settings.deployment import ReachEntry
from assistant.settings.process import ServiceSettings
from stacks.outputs import Workload
from stacks.tenant import DeployedTenant

HTTPS_PORT = 443
HEALTH_PORT = 8443
"""A second listener of the ALB, without client certificates, that the NLB's health checks ask. It exists only
where the first one asks for certificates, which a health check has none of."""
TASK_PORT: int = ServiceSettings.model_fields["port"].default
"""Of the orchestrator's container."""
OPERATIONS_PORT = TASK_PORT + 9
"""Of the same container, on its loopback address: readiness and metrics for who has a session in the task. No
flow leads to it."""


class Gateway(StrEnum):
    """What route tables lead to, without an address in the VPC."""

    S3 = "s3"
    DYNAMODB = "dynamodb"


@dataclass(frozen=True, slots=True)
class Consumers:
    """Clients on the care side, by a range of their own addresses: PrivateLink's enforcement judges those."""

    cidr: str


@dataclass(frozen=True, slots=True)
class InterfaceEndpoints:
    """AWS services by addresses in the VPC; one security group for all of them."""


@dataclass(frozen=True, slots=True)
class Reached:
    """An internal system of the company, by an endpoint and a security group of its own."""

    name: str


Target = Workload | InterfaceEndpoints | Gateway | Reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """TCP connections that ``source`` opens to ``target``."""

    source: Workload | Consumers
    target: Target
    port: int = HTTPS_PORT


_CALLERS = {"orchestrator": Workload.ORCHESTRATOR, "ingestion": Workload.INGESTION}
_SEARCHERS = (Workload.ORCHESTRATOR, Workload.INGESTION, Workload.SCHEMA)
_AWS_CALLERS = (
    Workload.ORCHESTRATOR,
    Workload.INGESTION,
    Workload.SCHEMA,
    Workload.REDACTOR,
    Workload.JOBS,
)
_S3_USERS = (*_AWS_CALLERS, Workload.MODELS)
"""Endpoints' instances fetch their model and write what they capture, and call nothing else."""
_DYNAMODB_USERS = (Workload.ORCHESTRATOR, Workload.INGESTION)


def flows_of(tenant: DeployedTenant) -> tuple[Flow, ...]:
    """Return every flow of the tenant's network."""
    return (
        *_way_in(tenant),
        *(Flow(source=workload, target=Workload.SEARCH) for workload in _SEARCHERS),
        *(Flow(source=workload, target=InterfaceEndpoints()) for workload in _AWS_CALLERS),
        *(Flow(source=workload, target=Gateway.S3) for workload in _S3_USERS),
        *(Flow(source=workload, target=Gateway.DYNAMODB) for workload in _DYNAMODB_USERS),
        *_ways_to(tenant.config.reach),
    )


def _way_in(tenant: DeployedTenant) -> Iterable[Flow]:
    for cidr in tenant.edge.consumer_cidrs:
        yield Flow(source=Consumers(cidr), target=Workload.NLB)
    yield Flow(source=Workload.NLB, target=Workload.ALB)
    if tenant.edge.client_certificates is not None:
        yield Flow(source=Workload.NLB, target=Workload.ALB, port=HEALTH_PORT)
    yield Flow(source=Workload.ALB, target=Workload.ORCHESTRATOR, port=TASK_PORT)


def _ways_to(entries: Iterable[ReachEntry]) -> Iterable[Flow]:
    for entry in entries:
        yield Flow(source=_CALLERS[entry.caller], target=Reached(entry.name), port=entry.port)
