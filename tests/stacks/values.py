"""Values for the test of one stack: a tenant, a stage like the deployed one, other stacks' outputs."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

import aws_cdk as cdk

from assistant.tenant.tenant import TenantConfig
from stacks.observability.alarms import TenantMetrics
from stacks.orchestrator import OrchestratorStack
from stacks.outputs import (
    DataOutputs,
    EdgeOutputs,
    IngestionOutputs,
    KeysOutputs,
    ModelsOutputs,
    NetworkOutputs,
    OptionOutputs,
    OrchestratorOutputs,
    Workload,
)
from stacks.tenant import ROOT, DeployedTenant, read_tenants
from stacks.tenant_stack import Foundation, TenantStack
from tests.stage.tenant_files import checkout_tenant, checkout_tenants, with_own_llm

_ARN = "arn:aws:{service}:us-east-1:111122223333:{resource}"


def _arn(service: str, resource: str) -> str:
    return _ARN.format(service=service, resource=resource)


KEYS = KeysOutputs(
    data_key_arn=_arn("kms", "key/aaaaaaaa-0000-4000-8000-000000000001"),
    capture_key_arn=_arn("kms", "key/aaaaaaaa-0000-4000-8000-000000000002"),
    feedback_key_arn=_arn("kms", "key/aaaaaaaa-0000-4000-8000-000000000005"),
    models_key_arn=_arn("kms", "key/aaaaaaaa-0000-4000-8000-000000000003"),
    logs_key_arn=_arn("kms", "key/aaaaaaaa-0000-4000-8000-000000000004"),
    receipt_key_arn=_arn("kms", "key/aaaaaaaa-0000-4000-8000-000000000006"),
)
NETWORK = NetworkOutputs(
    reach_addresses={"orders": "https://vpce-0123-orders.vpce-svc-0123.us-east-1.vpce.amazonaws.com:443"},
    vpc_id="vpc-0123456789abcdef0",
    subnet_ids=("subnet-0000000000000000a", "subnet-0000000000000000b", "subnet-0000000000000000c"),
    route_table_ids=("rtb-0000000000000000a", "rtb-0000000000000000b", "rtb-0000000000000000c"),
    security_group_ids={w: f"sg-{number:017x}" for number, w in enumerate(Workload, start=1)},
)
DATA = DataOutputs(
    documents_bucket="value-documents",
    models_bucket="value-models",
    quarantine_bucket="value-quarantine",
    capture_bucket="value-capture",
    labels_bucket="value-labels",
    texts_bucket="value-texts",
    inbox_bucket="value-inbox",
    logs_bucket="value-logs",
    trail_bucket="value-trail",
    records_table="value-records",
    events_table="value-events",
    states_table="value-states",
    desk_table="value-desk",
    domain_name="value-search",
    domain_arn=_arn("es", "domain/value-search"),
    domain_endpoint="vpc-value-search-abcdefghijklmnopqrstuvwxyz.us-east-1.es.amazonaws.com",
    missed_starts_queue="value-missed-starts",
    search_log_group="value-search-errors",
    schema_role_arn="arn:aws:iam::111122223333:role/assistant/value-schema",
    schema_role_name="value-schema",
    system_secrets={"orders": _arn("secretsmanager", "secret:value-orders-AbCdEf")},
    backup_role_arn="arn:aws:iam::111122223333:role/assistant/value-backup",
    recovery_vault="recovery-value",
)
EDGE = EdgeOutputs(
    target_group_arn=_arn("elasticloadbalancing", "targetgroup/value-tasks/0123456789abcdef"),
    load_balancer_full_name="app/value-alb/0123456789abcdef",
    target_group_full_name="targetgroup/value-tasks/0123456789abcdef",
    endpoint_service_id="vpce-svc-0123456789abcdef0",
)
MODELS = ModelsOutputs(
    embedding_endpoint_name="value-embedding",
    llm_endpoint_name="value-llm",
    power_parameter="/assistant/value/power",
    pause_machine_arn=_arn("states", "stateMachine:value-pause"),
    resume_machine_arn=_arn("states", "stateMachine:value-resume"),
    model_stamp="value-model-stamp",
)
INGESTION = IngestionOutputs(
    ingestion_queue_url="https://sqs.us-east-1.amazonaws.com/111122223333/value-ingestion",
    ingestion_queue_arn=_arn("sqs", "value-ingestion"),
    withdrawals_queue_url="https://sqs.us-east-1.amazonaws.com/111122223333/value-withdrawals",
    withdrawals_queue_arn=_arn("sqs", "value-withdrawals"),
    queue_names=("value-ingestion", "value-withdrawals"),
    dead_letter_queue_names=("value-ingestion-dead", "value-withdrawals-dead"),
    function_names=("value-ingest", "value-parse", "value-withdraw"),
    parser_function="value-parse",
    log_groups={
        name: f"value-{name}" for name in ("close_audit_days", "ingest_documents", "sweep_quarantine")
    },
    schema_function_arn=_arn("lambda", "function:value-schema"),
    schema_stamp="value-schema-stamp",
)
ORCHESTRATOR = OrchestratorOutputs(
    cluster_name="value-cluster", service_name="value-service", log_group_name="value-orchestrator-logs"
)

LEARNING = OptionOutputs(
    job_bucket="value-training",
    function_names=("value-move",),
    log_groups={name: f"value-{name}" for name in ("move_feedback", "training_sets")},
)


Built = TypeVar("Built", bound=TenantStack)


def stack_with(
    kind: Callable[..., Built], tenant: DeployedTenant, *, stage: cdk.Stage | None = None, **others: Any
) -> Built:
    """Return a stack alone, made of what it takes of the values above; ``others`` replace some of them."""
    outputs = {"data": DATA, "edge": EDGE, "models": MODELS, "ingestion": INGESTION}
    outputs |= {"orchestrator": ORCHESTRATOR}
    given: dict[str, Any] = {
        **outputs,
        "tenant": tenant,
        "keys": KEYS,
        "network": NETWORK,
        "logs_key_arn": KEYS.logs_key_arn,
        "logs_bucket": DATA.logs_bucket,
        "target_group_arn": EDGE.target_group_arn,
        "job_buckets": [LEARNING.job_bucket, "value-corpus"],
        "metrics": TenantMetrics(tenant=tenant, options=[LEARNING], **outputs),
        **others,
    }
    given["foundation"] = Foundation(**{name: given[name] for name in ("tenant", "keys", "network", "data")})
    taken = inspect.signature(cast("Any", kind).__init__).parameters  # jsii hides it behind its metaclass
    return kind(stage or stage_for(tenant), **{name: given[name] for name in taken if name in given})


WITH_LLM = "sandbox with an LLM"
"""The sandbox with an LLM on an endpoint: the only one on CPU."""
COMPANY = ("company", "scribe")
"""The company's tenants. ``company`` has two of each that a rule might take the first of."""


@cache
def deployed(name: str) -> DeployedTenant:
    """Return the tenant of a file of the tests, or ``WITH_LLM``, as the application reads it."""
    folder = ROOT / ("tests/company/tenants" if name in COMPANY else "tests/tenants")
    if name == WITH_LLM:
        with TemporaryDirectory() as made:
            folder, name = checkout_tenants(Path(made)), "sandbox"
            (folder / "sandbox.toml").write_text(with_own_llm(checkout_tenant(name)), encoding="utf-8")
            (tenant,) = read_tenants(folder=folder, only=name, images=ROOT / "images.lock.toml")
            return tenant
    (tenant,) = read_tenants(folder=folder, only=name, images=ROOT / "images.lock.toml")
    return tenant


def with_sections(tenant: DeployedTenant, **sections: Any) -> DeployedTenant:
    """Return the tenant with sections of its file replaced: ``with_sections(t, network={"cidr": "…"})``.

    A section is given whole, as in the file; a list of them for ``reach``, whose live sources go with them.
    """
    data = json.loads(tenant.config.model_dump_json()) | sections
    called = [entry["name"] for entry in data["reach"] if (entry.get("live") or {}).get("connector")]
    data["sources"] = [one for one in data["sources"] if one["kind"] != "live" or one["reach"] in called]
    config = TenantConfig.model_validate_json(json.dumps(data), strict=True)
    assert config.deployment
    assert config.identity
    assert config.edge
    assert config.models
    return replace(
        tenant,
        config=config,
        place=config.deployment,
        identity=config.identity,
        edge=config.edge,
        models=config.models,
    )


def with_second_embedding(name: str) -> DeployedTenant:
    """Return a file's tenant with a second embedding model, ``tuned``, at ``<name>-embedding-next``."""
    before = deployed(name)
    data = json.loads(before.config.model_dump_json())
    models = {**data["models"], "embedding_next": "tuned"}
    following = {**data["embedding"], "endpoint": f"{name}-embedding-next", "model": "tuned"}
    made = with_sections(before, models=models, embedding_next=following)
    second = {"name": "tuned", "model": "acme/tuned", "sha256": "c" * 64}
    return replace(made, embedding_next=before.embedding.model_copy(update=second))


def stage_for(tenant: DeployedTenant) -> cdk.Stage:
    """Return an empty stage with the account, region, zones and context of a deployment.

    Roles get no boundary and no path here: ``TenantStage`` gives both.
    """
    context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    app = cdk.App(context=context)
    place = tenant.place
    stage = cdk.Stage(
        app,
        "Tenant",
        env=cdk.Environment(account=place.account, region=place.region),
        stage_name=f"{place.name_prefix}-{tenant.name}",
    )
    stage.node.set_context(
        f"availability-zones:account={place.account}:region={place.region}", list(place.zones)
    )
    return stage


def template_of(stack: cdk.Stack) -> dict[str, Any]:
    """Return the synthesized template. Synthesis ends the stage: add nothing to it afterwards."""
    stage = cdk.Stage.of(stack)
    assert stage is not None
    artifact = stage.synth().get_stack_artifact(stack.artifact_id)
    return json.loads(Path(artifact.template_full_path).read_text(encoding="utf-8"))


def resources_of(template: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Return the resources of a type (``AWS::EC2::VPC``) by logical id."""
    return {name: body for name, body in template["Resources"].items() if body["Type"] == kind}


def metrics_of(alarm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the metrics that an alarm reads, alone or in an expression."""
    if "Metrics" not in alarm:
        return [alarm]
    return [part["MetricStat"]["Metric"] for part in alarm["Metrics"] if "MetricStat" in part]


def description_of(alarm: Mapping[str, Any]) -> str:
    """Return an alarm's description as one text, with a reference as JSON in its place."""
    text = alarm["AlarmDescription"]
    parts = text["Fn::Join"][1] if isinstance(text, dict) else [text]
    return "".join(part if isinstance(part, str) else json.dumps(part) for part in parts)


def entry_of(alarm: Mapping[str, Any]) -> str:
    """Return the anchor of the runbook entry that an alarm's description names."""
    title = re.search(r"What to do, ([^:]+): https://", description_of(alarm))
    assert title is not None, alarm
    return title[1].lower().replace(" ", "-")


def mappings(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping in a value, itself included."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from mappings(each)
    elif isinstance(value, list):
        for each in value:
            yield from mappings(each)


def orchestrator_of(tenant: DeployedTenant, **others: Any) -> dict[str, Any]:
    """Return the orchestrator's template; ``others`` replace the outputs of the stacks before it."""
    network = replace(NETWORK, subnet_ids=NETWORK.subnet_ids[: len(tenant.place.zones)])
    given: dict[str, Any] = {"network": network, **others}
    return template_of(stack_with(OrchestratorStack, tenant, **given))


def only(template: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the properties of the one resource of a type."""
    (body,) = resources_of(template, kind).values()
    return body["Properties"]


Template = Mapping[str, Any]


def named(value: object) -> set[str]:
    """The logical ids that a value refers to."""
    found: set[str] = set()
    for each in mappings(value):
        if isinstance(each.get("Ref"), str):
            found.add(each["Ref"])
        if isinstance(each.get("Fn::GetAtt"), list):
            found.add(each["Fn::GetAtt"][0])
    return found


def before(template: Template, logical_id: str) -> set[str]:
    """The resources that CloudFormation makes before one."""
    resources = template["Resources"]
    seen: set[str] = set()
    waiting = [logical_id]
    while waiting:
        body = resources.get(waiting.pop(), {})
        depends = body.get("DependsOn", [])
        depends = {depends} if isinstance(depends, str) else set(depends)
        new = (named(body.get("Properties", {})) | depends) & resources.keys() - seen
        seen |= new
        waiting += new
    return seen


def rights_of(template: Template) -> dict[str, set[str]]:
    """The policies that are attached to each role of the template."""
    found: dict[str, set[str]] = {}
    for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        for logical_id, body in resources_of(template, kind).items():
            for role in named(body["Properties"].get("Roles", [])):
                found.setdefault(role, set()).add(logical_id)
    return found


def statements_of(template: Mapping[str, Any], logical_id: str) -> list[dict[str, Any]]:
    """Return a managed policy's statements, actions and resources as lists of text."""
    document = template["Resources"][logical_id]["Properties"]["PolicyDocument"]
    return [
        {
            **statement,
            "Action": listed(statement["Action"]),
            "Resource": [text_of(resource) for resource in listed(statement["Resource"])],
        }
        for statement in document["Statement"]
    ]


def allowed_on(statements: Iterable[Mapping[str, Any]], action: str) -> set[str]:
    """Return the resources that an action is allowed on, by that very name."""
    return {
        resource
        for statement in statements
        if statement["Effect"] == "Allow" and action in statement["Action"]
        for resource in statement["Resource"]
    }


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def text_of(value: Any) -> str:
    """Return a template's text with references as in ``Fn::Sub``."""
    match value:
        case str():
            return value
        case {"Ref": str(name)}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Join": [str(glue), list(parts)]}:
            return glue.join(text_of(part) for part in parts)
        case _:
            raise TypeError(f"{value} is no reference that a test of one stack should meet")
