"""Alarms, metric filters, trail, budget and dashboard of a tenant; a pause raises no alarm."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.tenant import deployed_names
from stacks.observability import ObservabilityStack
from stacks.observability import audit as patterns
from stacks.tenant import DeployedTenant
from tests.stacks.cloudwatch import counted_by, matches
from tests.stacks.values import (
    DATA,
    KEYS,
    deployed,
    entry_of,
    resources_of,
    stack_with,
    template_of,
    with_sections,
)
from tests.stage.cloudformation_server import takes

HOUR_S = 3600
MOST_OF_A_PATTERN = 2048
"""Characters: EventBridge's quota of an event pattern."""
GLASS, SECOND_GLASS = (f"arn:aws:iam::111122223333:role/break-glass{end}" for end in ("", "-by-night"))


def built(tenant: DeployedTenant) -> dict[str, Any]:
    return template_of(stack_with(ObservabilityStack, tenant))


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return built(deployed("pharmacy"))


@pytest.fixture(scope="module")
def with_glass() -> dict[str, Any]:
    """Of a tenant with break-glass, addresses and declared readers."""
    tenant = deployed("pharmacy")
    place = json.loads(tenant.place.model_dump_json()) | {"break_glass": [GLASS, SECOND_GLASS]}
    watching = {
        "alarm_email": "care@example.com",
        "page_email": "on-call@example.com",
        "declared_principals": [
            "arn:aws:iam::111122223333:role/backup",
            "arn:aws:iam::111122223333:user/auditor",
        ],
    }
    return built(with_sections(tenant, deployment=place, observability=watching))


def alarms(template: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By the anchor of the runbook entry."""
    found = resources_of(template, "AWS::CloudWatch::Alarm").values()
    return {entry_of(alarm["Properties"]): alarm["Properties"] for alarm in found}


def filters(template: Mapping[str, Any]) -> dict[str, str]:
    """The filter patterns by metric; several patterns of one metric are joined."""
    found: dict[str, str] = {}
    for body in resources_of(template, "AWS::Logs::MetricFilter").values():
        name = body["Properties"]["MetricTransformations"][0]["MetricName"]
        found[name] = found.get(name, "") + body["Properties"]["FilterPattern"]
    return found


DEPLOYMENT = "arn:aws:iam::111122223333:role/cdk-hnb659fds-cfn-exec-role-111122223333-us-east-1"
PERSON = "arn:aws:iam::111122223333:role/admin"
TABLE = "arn:aws:dynamodb:us-east-1:111122223333:table/assistant-pharmacy-Data-RecordsTable-1"
OTHERS_TABLE = TABLE.replace("assistant-pharmacy", "orders")
BUCKET = "assistant-pharmacy-data-documentsbucket-1"
QUEUE = "https://sqs.us-east-1.amazonaws.com/111122223333/assistant-pharmacy-Ingestion-q"


def by(arn: str) -> dict[str, Any]:
    return {"userIdentity": {"type": "AssumedRole", "sessionContext": {"sessionIssuer": {"arn": arn}}}}


def call(name: str, parameters: Mapping[str, Any], *, key: str = "") -> dict[str, Any]:
    """An event of CloudTrail, as a person's role made it. ``key``: the ARN of a KMS key that it concerns."""
    return by(PERSON) | {
        "eventName": name,
        "eventSource": f"{'kms' if key else 'any'}.amazonaws.com",
        "eventCategory": "Management",
        "readOnly": False,
        "requestParameters": parameters,
        "resources": [{"ARN": key}],
    }


SIX_TAGS = [{"key": f"k{number}", "value": "x"} for number in range(6)]
TENANT_TAG = {"tags": [{"key": "team", "value": "x"}, {"key": "tenant", "value": "pharmacy"}]}
TRUST = [
    call("TagRole", {"roleName": "of-another-team", **TENANT_TAG}),
    call("UntagRole", {"roleName": "assistant-pharmacy-Orchestrator-x", "tagKeys": ["tenant"]}),
    call(
        "TagRole",
        {"roleName": "of-another-team", "tags": [*SIX_TAGS, {"key": "Tenant", "value": "pharmacy"}]},
    ),
    call("TagUser", {"userName": "x", **TENANT_TAG}),
    call("CreateRole", {"roleName": "x", **TENANT_TAG}),
    call("AssumeRole", {"roleArn": "x", **TENANT_TAG}),
    call("AssumeRoleWithSAML", {"roleArn": "x", "principalTags": {"tenant": "pharmacy"}}),
    call("TagResource", {"resourceArn": TABLE}),
    call("TagResource", {"keyId": "x"}, key=KEYS.data_key_arn),
    call("PutBucketTagging", {"bucketName": BUCKET}),
    call("TagQueue", {"queueUrl": QUEUE}),
    call("RemoveTags", {"aRN": DATA.domain_arn}),
]
COPIES = [
    call("ExportTableToPointInTime", {"tableArn": TABLE, "s3Bucket": "theirs"}),
    call("RestoreTableToPointInTime", {"sourceTableName": TABLE.rpartition("/")[2]}),
    call("RestoreTableFromBackup", {"backupArn": f"{TABLE}/backup/1"}),
    call("UpdateTable", {"tableName": TABLE.rpartition("/")[2], "replicaUpdates": [{}]}),
    call("UpdateTable", {"tableName": TABLE, "replicaUpdates": [{}]}),
    call("CreateTableReplica", {"tableName": TABLE.rpartition("/")[2]}),
    call("PutBucketReplication", {"bucketName": BUCKET}),
    call("CreateOutboundConnection", {"connectionAlias": "x"}),
]
POLICIES = [
    call("PutBucketPolicy", {"bucketName": BUCKET}),
    call("PutBucketObjectLockConfiguration", {"bucketName": BUCKET.replace("documents", "trail")}),
    call("PutBucketPolicy", {"bucketName": "assistant-account-account-trailbucket-1"}),
    call("ScheduleKeyDeletion", {"keyId": "x"}, key=KEYS.data_key_arn),
    call("SetQueueAttributes", {"queueUrl": QUEUE}),
    call("UpdateDomainConfig", {"domainName": DATA.domain_name}),
    call("AttachRolePolicy", {"roleName": "assistant-pharmacy-Orchestrator-x"}),
    call("StopLogging", {"name": "x"}),
]


def shown(event: Mapping[str, Any]) -> str:
    return f"{event['eventName']}-{'-'.join(event['requestParameters'])}"


COUNTED = {"TrustChanged": TRUST, "DataCopied": COPIES, "PolicyChanged": POLICIES}


@pytest.mark.parametrize("metric", COUNTED)
def test_changes_of_trust_and_policies_and_copies_are_counted_unless_the_deployment_makes_them(
    template: dict[str, Any], metric: str
) -> None:
    for event in COUNTED[metric]:
        assert counted_by(template, event) == {metric}, event
        assert counted_by(template, event | by(DEPLOYMENT)) == set(), event


@pytest.mark.parametrize(
    ("event", "metrics"),
    [
        (call("CreateBackup", {"tableName": TABLE}), set[str]()),
        (call("PutBucketNotification", {"bucketName": BUCKET}), set[str]()),
        (call("PutBucketPolicy", {"bucketName": BUCKET}), {"PolicyChanged"}),
    ],
    ids=["a table's copy", "a bucket's events", "a policy"],
)
def test_aws_backup_s_role_copies_without_an_alarm_and_changes_no_policy_without_one(
    template: dict[str, Any], event: dict[str, Any], metrics: set[str]
) -> None:
    assert counted_by(template, event | by(str(DATA.backup_role_arn))) == metrics
    assert counted_by(template, event) != set()


@pytest.mark.parametrize(
    "event",
    [
        call("CreateRole", {"roleName": "x", "tags": [{"key": "team", "value": "x"}]}),
        call("CreateRole", {"roleName": "x", "tags": [{"key": "team", "value": "pharmacy"}]}),
        call("TagRole", {"roleName": "x", "tags": [{"key": "tenant", "value": "clinic"}]}),
        call("TagRole", {"roleName": "assistant-clinic-Orchestrator-x", "tags": []}),
        call("DisableKey", {"keyId": "x"}, key="arn:aws:kms:us-east-1:111122223333:key/of-another"),
        call("TagResource", {"keyId": "x"}, key="arn:aws:kms:us-east-1:111122223333:key/of-another"),
        call("AssumeRole", {"roleArn": "x"}),
        call("TagResource", {"resourceArn": OTHERS_TABLE}),
        call("ExportTableToPointInTime", {"tableArn": OTHERS_TABLE}),
        call("UpdateTable", {"tableName": "orders"}),
        call("PutBucketReplication", {"bucketName": "orders"}),
        call("TagQueue", {"queueUrl": QUEUE.replace("assistant-pharmacy", "orders")}),
    ],
    ids=shown,
)
def test_changes_of_other_resources_are_not_counted(template: dict[str, Any], event: dict[str, Any]) -> None:
    assert counted_by(template, event) == set()


def test_one_call_of_any_of_these_raises_its_alarm(with_glass: dict[str, Any]) -> None:
    for anchor in ("key-refused", "policy-changed", "trust-changed", "data-copied", "stranger-read"):
        alarm = alarms(with_glass)[anchor]
        assert (alarm["Threshold"], alarm["EvaluationPeriods"], alarm["Statistic"]) == (1, 1, "Sum"), anchor


def refused(key: str) -> dict[str, Any]:
    denied = {"eventName": "Decrypt", "readOnly": True, "errorCode": "AccessDenied"}
    return call("Decrypt", {}, key=key) | denied


def test_a_refused_use_of_an_own_key_is_counted_and_of_no_other(template: dict[str, Any]) -> None:
    assert counted_by(template, refused(KEYS.data_key_arn)) == {"KeyRefused"}
    assert counted_by(template, refused("arn:aws:kms:us-east-1:111122223333:key/of-another")) == set()
    used = refused(KEYS.data_key_arn) | {"errorCode": None}
    assert counted_by(template, used) == set()


def test_events_for_the_runbook_s_queries_come_into_the_log(template: dict[str, Any]) -> None:
    rules = resources_of(template, "AWS::Events::Rule").values()
    patterns_of = [body["Properties"]["EventPattern"]["detail"] for body in rules]
    put = call("PutSecretValue", {"secretId": "x"})
    copied = {"eventSource": "backup.amazonaws.com", "eventCategory": "Management", "eventName": "x"}
    for event in (put, copied):
        assert any(takes(pattern, event) for pattern in patterns_of)
    assert not any(takes(pattern, put | {"eventName": "DescribeKey"}) for pattern in patterns_of)


def test_rules_get_read_only_events_fit_their_quota_and_write_into_the_one_log(
    template: dict[str, Any],
) -> None:
    (group,) = resources_of(template, "AWS::Logs::LogGroup")
    for body in resources_of(template, "AWS::Events::Rule").values():
        rule = body["Properties"]
        assert rule["State"] == "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
        assert len(json.dumps(rule["EventPattern"], separators=(",", ":"))) <= MOST_OF_A_PATTERN
        (target,) = rule["Targets"]
        assert {"Ref": group} in target["Arn"]["Fn::Join"][1]
        assert "RoleArn" not in target, "a log group has a resource policy"
    assert group.startswith("AuditEvents"), "the account's log policy names it"
    assert not resources_of(template, "AWS::CloudTrail::Trail")


def test_readers_outside_the_tenant_s_path_and_the_declared_ones_are_strangers(
    with_glass: dict[str, Any],
) -> None:
    pattern = filters(with_glass)["StrangerRead"]
    issuers = re.findall(r'sessionIssuer\.arn != "([^"]+)"', pattern)
    users = re.findall(r'userIdentity\.arn != "([^"]+)"', pattern)

    assert issuers == [
        "arn:aws:iam::111122223333:role/assistant/pharmacy/*",
        "arn:aws:iam::111122223333:role/backup",
        GLASS,
        SECOND_GLASS,
    ]
    assert users == ["arn:aws:iam::111122223333:user/auditor"]


@pytest.mark.parametrize("kind", ["Root", "FederatedUser", "AWSAccount", "IdentityCenterUser", "Unknown"])
def test_a_read_by_any_kind_of_identity_but_roles_users_and_services_is_a_stranger_s(
    template: dict[str, Any], kind: str
) -> None:
    """Kinds: CloudTrail User Guide, "CloudTrail userIdentity element"."""
    pattern = filters(template)["StrangerRead"]
    read: dict[str, Any] = {"eventCategory": "Data", "readOnly": True}

    assert matches(pattern, {"detail": {**read, "userIdentity": {"type": kind}}})
    assert not matches(pattern, {"detail": {**read, "userIdentity": {"type": "AWSService"}}})


def test_a_break_glass_read_raises_its_own_alarm(
    template: dict[str, Any], with_glass: dict[str, Any]
) -> None:
    for glass in (GLASS, SECOND_GLASS):
        assert f'sessionIssuer.arn = "{glass}"' in filters(with_glass)["BreakGlassUsed"]
    assert "break-glass-used" in alarms(with_glass)
    assert "break-glass-used" not in alarms(template)


def test_changes_are_counted_for_the_longest_names_which_cloudformation_truncates() -> None:
    """Of `care-for-everyone-in-northern-district-Orchestrator` a role's name has the first 25 characters."""
    cut, template = "care-for-everyone-in-nort", built(named("care-for-everyone", "in-northern-district"))
    patterns_of_long = filters(template)["PolicyChanged"]

    assert f'$.detail.requestParameters.roleName = "{cut}*"' in patterns_of_long
    assert f'$.detail.requestParameters.bucketName = "{cut}*"' in patterns_of_long
    for body in resources_of(template, "AWS::Logs::MetricFilter").values():
        assert len(body["Properties"]["FilterPattern"]) <= patterns.LONGEST
    (group,) = resources_of(template, "AWS::XRay::Group").values()
    assert len(group["Properties"]["GroupName"]) == 32, "of 38, which X-Ray would refuse"


def test_a_pattern_beyond_cloudwatch_s_limit_is_refused_at_synth() -> None:
    declared = [f"arn:aws:iam::111122223333:role/reader-{number}" for number in range(12)]

    with pytest.raises(ConfigurationError, match=r"declared_principals .* takes 1024; name several at once"):
        patterns.read_by_strangers(roles="arn:aws:iam::111122223333:role/a/*", declared=declared)


def test_overdue_raw_capture_raises_an_alarm_within_the_hour(template: dict[str, Any]) -> None:
    late = alarms(template)["raw-capture-late"]
    assert late["MetricName"] == deployed_names.OLDEST_RAW_CAPTURE_AGE
    assert late["Statistic"] == "Maximum"
    assert late["Threshold"] + late["Period"] * late["EvaluationPeriods"] < HOUR_S
    assert late["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"


def named(prefix: str, name: str) -> DeployedTenant:
    tenant = deployed("pharmacy")
    place = json.loads(tenant.place.model_dump_json()) | {"name_prefix": prefix}
    return with_sections(tenant, deployment=place, name=name)


def test_a_system_that_decides_by_the_agent_may_refuse_agents() -> None:
    service = "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"
    live = {"connector": "connectors/orders.toml", "whose": "agent"}
    orders = {"name": "orders", "port": 443, "service_name": service, "live": live, "auth": "token"}
    found = alarms(built(with_sections(deployed("pharmacy"), reach=[orders])))
    assert "a-system-answers-for-another-customer" not in found
    assert "a-system-answers-in-another-form" in found
