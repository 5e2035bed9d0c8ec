"""One trail an account: what it records, who holds it, and that each of twelve tenants in two regions hears
of its own events alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployment import ACCOUNT_TRAIL, Profile
from stacks.account import AccountStage
from stacks.observability import ObservabilityStack
from stacks.observability.alarms import TenantMetrics
from stacks.outputs import DataOutputs, KeysOutputs
from stacks.tenant import ROOT, DeployedTenant
from tests.stacks.cloudwatch import as_sent, matches
from tests.stacks.emulated_account import ACCOUNT, EmulatedAccount, emulated_account
from tests.stacks.values import (
    DATA,
    EDGE,
    INGESTION,
    KEYS,
    LEARNING,
    MODELS,
    ORCHESTRATOR,
    deployed,
    resources_of,
    stack_with,
    template_of,
    with_sections,
)

HOME, SECOND = "us-east-1", "eu-central-1"
NAMES = tuple(f"care-{letter}" for letter in "abcdefghijkl")
REGIONS = {name: SECOND if name in ("care-f", "care-g") else HOME for name in NAMES}
"""The sixth and the seventh of twelve tenants are in a second region."""
MOST_TRAILS, MOST_VALUES, MOST_FILTERS = 5, 500, 100
"""Trails of a region, values of a trail, filters of a log group: quotas that AWS raises for nobody."""
EXISTING = "".join(
    f'{item} = "existing"\n'
    for item in (
        *("search_service_role", "ecs_service_role", "ecs_scaling_role", "sagemaker_scaling_role"),
        *("boundary", "trail"),
    )
)


def tenant(name: str, region: str = HOME, profile: Profile = "standard") -> DeployedTenant:
    place = {"region": region, "zones": [f"{region}{zone}" for zone in "abc"], "profile": profile}
    shipped = deployed("pharmacy")
    return with_sections(shipped, name=name, deployment=json.loads(shipped.place.model_dump_json()) | place)


def stages(
    tenants: list[DeployedTenant], folder: Path, *, existing_in: str = SECOND
) -> dict[str, AccountStage]:
    """Return the account stages by region."""
    (folder / f"{ACCOUNT}-{existing_in}.toml").write_text(EXISTING)
    context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    made = AccountStage.for_places(cdk.App(context=context), tenants, folder=folder)
    return {str(stage.region): stage for stage in made}


def templates(stage: AccountStage) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the stage's templates by region and name of their stacks."""
    return {
        (artifact.environment.region, artifact.stack_name): json.loads(
            Path(artifact.template_full_path).read_text(encoding="utf-8")
        )
        for artifact in stage.synth().stacks
    }


def the_account_s(stage: AccountStage) -> dict[str, Any]:
    (found,) = [body for (_, name), body in templates(stage).items() if name == "assistant-account-Account"]
    return found


def trail_of(template: Mapping[str, Any]) -> dict[str, Any]:
    (trail,) = resources_of(template, "AWS::CloudTrail::Trail").values()
    return trail["Properties"]


def selected(trail: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the conditions of each selector by its name and field."""
    return {
        one["Name"]: {
            each["Field"]: {k: v for k, v in each.items() if k != "Field"} for each in one["FieldSelectors"]
        }
        for one in trail["AdvancedEventSelectors"]
    }


def test_data_events_are_selected_by_the_beginning_of_names_and_never_writes_to_the_trail_itself(
    tmp_path: Path,
) -> None:
    tenants = [tenant("one"), tenant("two", SECOND)]
    trail = trail_of(the_account_s(stages(tenants, tmp_path)[HOME]))
    fields = selected(trail)
    own = [{"Fn::GetAtt": [trail["S3BucketName"]["Ref"], "Arn"]}]
    objects = {"StartsWith": ["arn:aws:s3:::assistant-"], "NotStartsWith": own}
    assert fields["Management"] == {"eventCategory": {"Equals": ["Management"]}}
    assert fields["Objects"]["resources.ARN"] == objects
    assert fields["Reads of the trail"]["resources.ARN"] == {"StartsWith": own}
    assert fields["Reads of the trail"]["readOnly"] == {"Equals": ["true"]}
    (tables,) = fields["Items"]["resources.ARN"].values()
    assert len(tables) == 2
    for table, region in zip(tables, (SECOND, HOME), strict=True):
        assert "".join(table["Fn::Join"][1][2::2]) == f":dynamodb:{region}:" + ":table/assistant-", table


@pytest.mark.parametrize(
    ("profiles", "lock"),
    [
        (("dev", "dev"), {"Mode": "GOVERNANCE", "Days": 1}),
        (("dev", "standard"), {"Mode": "GOVERNANCE", "Days": 365}),
        (("standard", "hipaa"), {"Mode": "COMPLIANCE", "Days": 2192}),
    ],
)
def test_the_strictest_tenant_of_the_account_locks_the_trail_also_from_another_region(
    profiles: tuple[Profile, Profile], lock: dict[str, Any], tmp_path: Path
) -> None:
    tenants = [tenant("one", HOME, profiles[0]), tenant("two", SECOND, profiles[1])]
    template = the_account_s(stages(tenants, tmp_path)[HOME])
    (bucket,) = resources_of(template, "AWS::S3::Bucket").values()
    rule = bucket["Properties"]["ObjectLockConfiguration"]["Rule"]
    assert rule == {"DefaultRetention": lock}


def test_two_regions_make_no_second_trail(tmp_path: Path) -> None:
    tenants = [tenant("one"), tenant("two", SECOND)]
    made = stages(tenants, tmp_path)
    assert resources_of(the_account_s(made[SECOND]), "AWS::CloudTrail::Trail") == {}
    (tmp_path / f"{ACCOUNT}-{SECOND}.toml").write_text(EXISTING.replace('trail = "existing"\n', ""))
    with pytest.raises(ConfigurationError, match=r'trail must be "existing"'):
        AccountStage.for_places(cdk.App(), tenants, folder=tmp_path)


def test_no_tenant_s_role_reads_the_trail_and_nobody_but_it_writes(tmp_path: Path) -> None:
    template = the_account_s(stages([tenant("one")], tmp_path)[HOME])
    (policy,) = resources_of(template, "AWS::S3::BucketPolicy").values()
    statements = {one.get("Sid"): one for one in policy["Properties"]["PolicyDocument"]["Statement"]}
    tagged = {"Null": {"aws:PrincipalTag/tenant": "false"}}
    assert statements["RefuseTenants"]["Condition"] == tagged
    assert "s3:GetObject*" in statements["RefuseTenants"]["Action"]
    assert statements["OnlyTrailPuts"]["Condition"] == {
        "BoolIfExists": {"aws:PrincipalIsAWSService": "false"}
    }
    assert "s3:BypassGovernanceRetention" in statements["NobodyUnlocks"]["Action"]
    allowed = [one for one in statements.values() if one["Effect"] == "Allow"]
    writes = [one for one in policy["Properties"]["PolicyDocument"]["Statement"] if one["Effect"] == "Allow"]
    assert allowed
    trail = f"arn:aws:cloudtrail:{HOME}:{ACCOUNT}:trail/{ACCOUNT_TRAIL}"
    for one in writes:
        assert one["Principal"] == {"Service": "cloudtrail.amazonaws.com"}
        assert one["Condition"]["StringEquals"]["aws:SourceArn"] == trail
    (key,) = [
        body["Properties"]
        for name, body in resources_of(template, "AWS::KMS::Key").items()
        if name.startswith("Trail")
    ]
    uses = [one for one in key["KeyPolicy"]["Statement"] if "Service" in one["Principal"]]
    assert [one["Condition"]["StringEquals"]["aws:SourceArn"] for one in uses] == [trail]


@pytest.mark.parametrize(
    ("region", "source"), [(HOME, None), (SECOND, HOME), ("us-gov-east-1", "us-gov-west-1")]
)
def test_changes_of_identities_are_sent_from_iam_s_region(
    region: str, source: str | None, tmp_path: Path
) -> None:
    stage = stages([tenant("one", region)], tmp_path, existing_in="none")[region]
    relays = {where: body for (where, name), body in templates(stage).items() if "IdentitiesFor" in name}
    assert list(relays) == ([] if source is None else [source])
    for body in relays.values():
        (rule,) = resources_of(body, "AWS::Events::Rule").values()
        assert rule["Properties"]["EventPattern"]["region"] == [source]
        (target,) = rule["Properties"]["Targets"]
        assert f":events:{region}:{ACCOUNT}:event-bus/default" in json.dumps(target["Arn"])
        assert "RoleArn" in target
        (sends,) = resources_of(body, "AWS::IAM::ManagedPolicy").values()
        (statement,) = sends["Properties"]["PolicyDocument"]["Statement"]
        assert (statement["Action"], statement["Resource"]) == ("events:PutEvents", target["Arn"])


def keys_of(name: str) -> KeysOutputs:
    arn = f"arn:aws:kms:{REGIONS[name]}:{ACCOUNT}:key/{name}"
    return KeysOutputs(**{field: f"{arn}-{field}" for field in asdict(KEYS)})


def data_of(name: str) -> DataOutputs:
    names = {
        field: f"assistant-{name}-Data-{field}-1"
        if field.endswith("_table")
        else f"assistant-{name}-data-{field}-1"
        for field in asdict(DATA)
        if field.endswith(("_table", "_bucket"))
    }
    domain = f"arn:aws:es:{REGIONS[name]}:{ACCOUNT}:domain/{name}"
    return replace(DATA, **names, domain_name=name, domain_arn=domain)


def audit_of(name: str) -> dict[str, Any]:
    """Return the template of a tenant's observability stack."""
    of, data = tenant(name, REGIONS[name]), data_of(name)
    outputs = {"data": data, "edge": EDGE, "models": MODELS, "ingestion": INGESTION}
    metrics = TenantMetrics(tenant=of, options=[LEARNING], orchestrator=ORCHESTRATOR, **outputs)
    given = {"keys": keys_of(name), "metrics": metrics, "job_buckets": [f"assistant-{name}-learning-1"]}
    return template_of(stack_with(ObservabilityStack, of, **given))


def by(arn: str) -> dict[str, Any]:
    return {"type": "AssumedRole", "sessionContext": {"sessionIssuer": {"arn": arn}}}


PERSON = by(f"arn:aws:iam::{ACCOUNT}:role/admin")


def call(name: str, service: str, parameters: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    event = {"eventName": name, "eventSource": f"{service}.amazonaws.com", "eventCategory": "Management"}
    return {**event, "readOnly": False, "userIdentity": PERSON, "requestParameters": parameters, **more}


def read(resource: str, kind: str, **more: Any) -> dict[str, Any]:
    event = call("GetObject", "s3", {}, eventCategory="Data", readOnly=True)
    resources = [{"type": "AWS::S3::Object", "ARN": f"{resource}/x"}, {"type": kind, "ARN": resource}]
    return {**event, "resources": resources, **more}


def own_events(name: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield metric, region and record of what concerns one tenant."""
    data, keys, region = data_of(name), keys_of(name), REGIONS[name]
    key = {"resources": [{"ARN": keys.data_key_arn}]}
    role, tag = f"assistant-{name}-Orchestrator-x", [{"key": "tenant", "value": name}]
    denied = {"errorCode": "AccessDenied", "readOnly": True}
    table = f"arn:aws:dynamodb:{region}:{ACCOUNT}:table/{data.records_table}"
    bucket = f"arn:aws:s3:::{data.documents_bucket}"
    yield "PolicyChanged", HOME, call("PutRolePolicy", "iam", {"roleName": role})
    yield "PolicyChanged", region, call("PutBucketPolicy", "s3", {"bucketName": data.documents_bucket})
    yield "PolicyChanged", region, call("DisableKey", "kms", {"keyId": "x"}, **key)
    yield "TrustChanged", HOME, call("TagRole", "iam", {"roleName": "of-a-stranger", "tags": tag})
    yield "TrustChanged", HOME, call("UntagRole", "iam", {"roleName": role, "tagKeys": ["tenant"]})
    yield "TrustChanged", region, call("AssumeRole", "sts", {"roleArn": "x", "tags": tag}, readOnly=True)
    yield "TrustChanged", region, call("TagResource", "dynamodb", {"resourceArn": table})
    yield "TrustChanged", region, call("TagResource", "kms", {"keyId": "x"}, **key)
    yield "DataCopied", region, call("ExportTableToPointInTime", "dynamodb", {"tableArn": table})
    yield "KeyRefused", region, call("Decrypt", "kms", {}, **denied, **key)
    yield "StrangerRead", region, read(bucket, "AWS::S3::Bucket")
    yield "StrangerRead", region, read(table, "AWS::DynamoDB::Table", eventName="GetItem")


def deploy(account: EmulatedAccount, region: str, name: str, template: Mapping[str, Any]) -> None:
    at = account.client_in("cloudformation", region)
    at.create_stack(StackName=name, TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_NAMED_IAM"])
    (stack,) = at.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE", (name, stack)


def send(account: EmulatedAccount, region: str, record: Mapping[str, Any]) -> None:
    """Put a record of CloudTrail on the region's default bus."""
    source = f"aws.{record['eventSource'].partition('.')[0]}"
    entry = {"Source": source, "DetailType": as_sent(record)["detail-type"], "Detail": json.dumps(record)}
    account.client_in("events", region).put_events(Entries=[entry])


def heard(account: EmulatedAccount, name: str) -> dict[str, set[str]]:
    """Return the metrics that a tenant's filters count in its log, each with an alarm of the tenant, by the
    record's id."""
    logs = account.client_in("logs", REGIONS[name])
    (group,) = [
        one["logGroupName"]
        for one in logs.get_paginator("describe_log_groups").paginate().build_full_result()["logGroups"]
        if one["logGroupName"].startswith(f"assistant-{name}-Observability-AuditEvents")
    ]
    lines = logs.get_paginator("filter_log_events").paginate(logGroupName=group).build_full_result()["events"]
    # moto makes neither metric filters nor alarms of a template.
    stack = {"StackName": f"assistant-{name}-Observability"}
    template = account.client_in("cloudformation", REGIONS[name]).get_template(**stack)["TemplateBody"]
    filters = [body["Properties"] for body in resources_of(template, "AWS::Logs::MetricFilter").values()]
    alarms = [body["Properties"] for body in resources_of(template, "AWS::CloudWatch::Alarm").values()]
    assert 0 < len(filters) <= MOST_FILTERS
    counted: dict[str, set[str]] = {}
    for line in lines:
        event = json.loads(line["message"])
        for each in filters:
            (change,) = each["MetricTransformations"]
            if matches(each["FilterPattern"], event):
                counted.setdefault(event["detail"]["eventID"], set()).add(change["MetricName"])
                watched = [one for one in alarms if one.get("MetricName") == change["MetricName"]]
                assert [one["Namespace"] for one in watched] == [change["MetricNamespace"]]
    return counted


@pytest.mark.loopback
@pytest.mark.timeout(600)
def test_twelve_tenants_of_an_account_have_one_trail_and_each_hears_of_its_own_events_alone(
    tmp_path: Path,
) -> None:
    tenants = [tenant(name, REGIONS[name]) for name in NAMES]
    with emulated_account(tmp_path) as account:
        for region in (HOME, SECOND):
            version = {"Name": "/cdk-bootstrap/hnb659fds/version", "Value": "30", "Type": "String"}
            account.client_in("ssm", region).put_parameter(**version)
        for stage in stages(tenants, tmp_path).values():
            for (region, stack), template in templates(stage).items():
                deploy(account, region, stack, template)
        for name in NAMES:
            deploy(account, REGIONS[name], f"assistant-{name}-Observability", audit_of(name))

        for region in (HOME, SECOND):
            trails = account.client_in("cloudtrail", region).describe_trails(includeShadowTrails=True)[
                "trailList"
            ]
            assert [one["Name"] for one in trails] == [ACCOUNT_TRAIL], region
            assert len(trails) <= MOST_TRAILS
        chosen = account.client("cloudtrail").get_event_selectors(TrailName=ACCOUNT_TRAIL)[
            "AdvancedEventSelectors"
        ]
        values = [
            value
            for one in chosen
            for each in one["FieldSelectors"]
            for operator, several in each.items()
            if operator != "Field"
            for value in several
        ]
        assert len(values) == 13 < MOST_VALUES, "of one prefix in two regions, whatever the number of tenants"

        expected: dict[str, dict[str, set[str]]] = {}
        for name in NAMES:
            expected[name] = {}
            for number, (metric, region, record) in enumerate(own_events(name)):
                send(account, region, record | {"eventID": f"{name}-{number}"})
                expected[name][f"{name}-{number}"] = {metric}
        for name in NAMES:
            assert heard(account, name) == expected[name]
        assert [len(events) for events in expected.values()] == [12] * 12

        send(account, HOME, call("StopLogging", "cloudtrail", {"name": ACCOUNT_TRAIL}, eventID="stop"))
        for name in NAMES:
            assert heard(account, name).get("stop") == {"PolicyChanged"}, "the trail is everybody's"
