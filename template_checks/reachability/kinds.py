"""What each thing in the tenant's network is for, and the paths that are meant to be: written once, by
meaning, and nowhere derived from the code that makes the templates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from template_checks.templates import Resource
from template_checks.values import text


class Kind(StrEnum):
    CARE_SIDE = "care side"
    NLB = "network load balancer"
    ALB = "application load balancer"
    ORCHESTRATOR = "orchestrator"
    SEARCH = "search domain"
    INGESTION = "ingestion functions"
    SET_UP = "set-up functions"
    REDACTOR = "redactor"
    MODELS = "model instances"
    JOBS = "jobs"
    AWS = "endpoints of AWS services"
    SYSTEM = "company system"
    S3 = "S3"
    DYNAMODB = "DynamoDB"


@dataclass(frozen=True, slots=True)
class Path:
    """TCP connections that are meant to be."""

    source: Kind
    target: Kind
    ports: tuple[int, ...] = (443,)


_CALLERS = (Kind.ORCHESTRATOR, Kind.INGESTION, Kind.SET_UP, Kind.REDACTOR, Kind.JOBS)
DECLARED = (
    # The one way in: TLS from the care side to the ALB, encrypted again to the tasks.
    Path(Kind.CARE_SIDE, Kind.NLB),
    Path(Kind.NLB, Kind.ALB, (443, 8443)),
    Path(Kind.ALB, Kind.ORCHESTRATOR, (8700,)),
    # Who searches, who writes the index, who sets it up.
    Path(Kind.ORCHESTRATOR, Kind.SEARCH),
    Path(Kind.INGESTION, Kind.SEARCH),
    Path(Kind.SET_UP, Kind.SEARCH),
    # Who calls AWS. The instances of models fetch their artifact and write what they capture, no more.
    *(Path(caller, Kind.AWS) for caller in _CALLERS),
    *(Path(caller, Kind.S3) for caller in (*_CALLERS, Kind.MODELS)),
    # Behind gateway endpoints the two share route tables and, without prefix lists, rules: who reaches one
    # reaches the other, and roles and endpoint policies decide.
    *(Path(caller, Kind.DYNAMODB) for caller in (*_CALLERS, Kind.MODELS)),
)
SYSTEM_CALLERS = (Kind.ORCHESTRATOR, Kind.INGESTION)
"""Who may be the one caller of a company system, on the one port of its entry."""

_FUNCTIONS = {
    "receive_documents": Kind.INGESTION,
    "ingest_documents": Kind.INGESTION,
    "withdraw_documents": Kind.INGESTION,
    "purge_index": Kind.INGESTION,
    "apply_search_schema": Kind.SET_UP,
    "create_link_secret": Kind.SET_UP,
    "redact_capture": Kind.REDACTOR,
    "sweep_quarantine": Kind.REDACTOR,
}
_TYPES = {
    "AWS::ECS::Service": Kind.ORCHESTRATOR,
    "AWS::OpenSearchService::Domain": Kind.SEARCH,
    "AWS::SageMaker::Model": Kind.MODELS,
    "AWS::EMRServerless::Application": Kind.JOBS,
    "AWS::SSM::Document": Kind.JOBS,  # a runbook has no address itself: what it starts there has
}
JOB_PRINCIPALS = ("sagemaker.amazonaws.com", "emr-serverless.amazonaws.com")
"""Who runs jobs: a role for one of them that nothing in the templates uses is a job's, started later."""
_SPARE = {
    "Jobs of the assistant": Kind.JOBS,
    "Redactor of the assistant": Kind.REDACTOR,
    "Ingestion of the assistant": Kind.INGESTION,
    "Schema of the assistant": Kind.SET_UP,
}
"""Groups that nothing in the templates carries, by their description: jobs are started with it later."""


def kind_of(resource: Resource) -> Kind | str:
    """Return what a resource is for; its type and name where nothing here tells that."""
    properties = resource.properties
    match resource.type:
        case "AWS::ElasticLoadBalancingV2::LoadBalancer":
            return Kind.NLB if text(properties.get("Type")) == "network" else Kind.ALB
        case "AWS::Lambda::Function":
            handler = re.match(r"lambdas\.(\w+)\.", text(properties.get("Handler")))
            found = _FUNCTIONS.get(handler.group(1)) if handler else None
        case "AWS::EC2::VPCEndpoint":
            is_aws = re.match(r"(cn\.)?com\.amazonaws\.(?!vpce\.)", text(properties.get("ServiceName")))
            found = Kind.AWS if is_aws else Kind.SYSTEM
        case "AWS::EC2::SecurityGroup":
            found = _SPARE.get(text(properties.get("GroupDescription")))
        case _:
            found = _TYPES.get(resource.type)
    return found or f"{resource.type} {resource.logical_id}"
