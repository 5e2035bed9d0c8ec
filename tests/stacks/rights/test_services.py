"""The tenant's policies allow AWS's services what the product needs: capture, events, logs, alarms and
deployments. Deployers and break-glass roles get no more than they need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.stacks.rights.isolation import ANYTHING
from tests.stacks.rights.model import Account, Store
from tests.stacks.rights.requests import ACCOUNT, EXECUTION_ROLE, REGION, Request, context_of, judge

TENANT = pytest.mark.parametrize("tenant", ["pharmacy", "clinic"])
ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:role/administrator"


def stores(account: Account, tenant: str, kind: str) -> list[Store]:
    return [store for store in account.stores if (store.tenant, store.kind) == (tenant, kind)]


def by_service(
    service: str, action: str, of: Store, *, inside: str = "", context: Mapping[str, str] | None = None
) -> Request:
    """Return a call with a service's principal: only the store's policy applies."""
    return Request(
        principal=service,
        action=action,
        resource=of.arn + inside,
        account=ACCOUNT,
        context={
            "aws:PrincipalIsAWSService": "true",
            "aws:SecureTransport": "true",
            "s3:TlsVersion": "1.3",
            **(context or {}),
        },
        resource_policy=of.policy,
    )


def by_person(
    arn: str, action: str, of: Store, *, inside: str = "", context: Mapping[str, str] | None = None
) -> Request:
    """Return a call of an identity that may do anything and has no tenant tag."""
    request = by_service(arn, action, of, inside=inside, context=context)
    of_person = {"aws:PrincipalIsAWSService": "false", "aws:PrincipalArn": arn}
    return replace(request, identity=(ANYTHING,), context={**request.context, **of_person})


def refused(requests: list[Request]) -> list[str]:
    assert requests
    return [str(judgement) for judgement in judge(requests) if not judgement.is_allowed]


def allowed(requests: list[Request]) -> list[str]:
    assert requests
    return [str(judgement) for judgement in judge(requests) if judgement.is_allowed]


ELSEWHERE = {"aws:SourceAccount": "999999999999"}


def used_by_logs(account: Account, tenant: str, *, keys: Mapping[str, Store]) -> list[Request]:
    """Return the uses of a key for each log group of the tenant."""
    return [
        by_service(f"logs.{REGION}.amazonaws.com", action, keys[str(group.key)], context=context)
        for group in stores(account, tenant, "log group")
        for context in [{"kms:EncryptionContext:aws:logs:arn": group.arn}]
        for action in ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey")
    ]


@TENANT
def test_each_log_group_may_use_its_key_and_none_of_another_tenant(account: Account, tenant: str) -> None:
    own = {one.arn: one for one in stores(account, tenant, "key")}
    assert refused(used_by_logs(account, tenant, keys=own)) == []
    theirs = account.store({"pharmacy": "clinic", "clinic": "pharmacy"}[tenant], "LogsKey")
    assert allowed(used_by_logs(account, tenant, keys=dict.fromkeys(own, theirs))) == []


@TENANT
def test_event_rules_put_into_their_encrypted_queues(account: Account, tenant: str) -> None:
    key, by = account.store(tenant, "DataKey"), "events.amazonaws.com"
    fed = [queue for queue in stores(account, tenant, "queue") if by in str(queue.policy)]
    assert len(fed) >= 3

    def sent(queue: Store, source: str) -> Request:
        return by_service(by, "sqs:SendMessage", queue, context={"aws:SourceArn": source})

    used = [
        by_service(by, action, key, context={"kms:EncryptionContext:aws:sqs:arn": queue.arn})
        for queue in fed
        for action in ("kms:GenerateDataKey", "kms:Decrypt")
    ]
    assert refused([*(sent(queue, source) for queue in fed for source in _sources(queue)), *used]) == []
    assert allowed([sent(queue, f"arn:aws:events:{REGION}:{ACCOUNT}:rule/stray") for queue in fed]) == []


def _sources(queue: Store) -> list[str]:
    assert queue.policy
    return [
        str(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
        for statement in queue.policy["Statement"]
        if statement["Principal"] == {"Service": "events.amazonaws.com"}
    ]


@TENANT
def test_logs_are_delivered_to_the_logs_bucket_of_this_account_alone(account: Account, tenant: str) -> None:
    bucket = account.store(tenant, "LogsBucket")
    assert account.logged[tenant] == {bucket.arn.rpartition(":")[2]}
    balancer, place = "logdelivery.elasticloadbalancing", f"/alb/AWSLogs/{ACCOUNT}/elasticloadbalancing/x"
    assert refused([by_service(f"{balancer}.amazonaws.com", "s3:PutObject", bucket, inside=place)]) == []
    assert refused([_logged(bucket, {"aws:SourceAccount": ACCOUNT})]) == []
    assert allowed([_logged(bucket, ELSEWHERE)]) == []


def _logged(bucket: Store, context: Mapping[str, str]) -> Request:
    """Return what S3 asks to write its log of accesses."""
    by, inside = "logging.s3.amazonaws.com", "/s3/DocumentsBucket/x"
    return by_service(by, "s3:PutObject", bucket, inside=inside, context=context)


@TENANT
def test_fargate_pulls_images_reads_secrets_and_writes_the_log(account: Account, tenant: str) -> None:
    """With the execution role's policies and its boundary: the service's task, and those of schedules."""
    assert len(account.tasks[tenant]) >= 2
    for task in account.tasks[tenant]:
        _starts(account, tenant, task)


def _starts(account: Account, tenant: str, task: Mapping[str, Any]) -> None:
    (role,) = (one for one in account.of(tenant)[0] if one.arn == task["ExecutionRoleArn"])
    asked: list[tuple[str, str]] = [("ecr:GetAuthorizationToken", "*")]
    for container in task["ContainerDefinitions"]:
        registry, _, image = container["Image"].partition("/")
        repository = re.split("[:@]", image)[0]
        place = f"arn:aws:ecr:{REGION}:{registry.partition('.')[0]}:repository/{repository}"
        asked += [(action, place) for action in ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")]
        group = container["LogConfiguration"]["Options"]["awslogs-group"]
        asked.append(
            ("logs:CreateLogStream", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:x")
        )
        secrets = container.get("Secrets", [])
        asked += [("secretsmanager:GetSecretValue", secret["ValueFrom"]) for secret in secrets]
    assert role.boundary
    boundary = account.policies[role.boundary]
    policies = tuple(role.policies.values())
    assert not refused(
        [
            Request(
                principal=role.arn,
                action=action,
                resource=resource,
                account=ACCOUNT,
                context=context_of(role),
                identity=policies,
                boundary=boundary,
            )
            for action, resource in asked
        ]
    )


@TENANT
def test_no_service_writes_where_the_audit_digests_are(account: Account, tenant: str) -> None:
    bucket, trail = account.store(tenant, "TrailBucket"), f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/x"
    inside = f"/cloudtrail/AWSLogs/{ACCOUNT}/CloudTrail/x"
    context = {"aws:SourceArn": trail, "s3:x-amz-acl": "bucket-owner-full-control"}
    by_trail = by_service("cloudtrail.amazonaws.com", "s3:PutObject", bucket, inside=inside, context=context)
    assert allowed([by_trail, _logged(bucket, {"aws:SourceAccount": ACCOUNT})]) == []


@TENANT
def test_alarms_of_this_account_alone_use_the_logs_key(account: Account, tenant: str) -> None:
    key, topics = account.store(tenant, "LogsKey"), stores(account, tenant, "topic")
    assert topics
    calls = [("kms:GenerateDataKey", key), ("kms:Decrypt", key), *(("sns:Publish", one) for one in topics)]

    def asked(context: Mapping[str, str]) -> list[Request]:
        return [by_service("cloudwatch.amazonaws.com", *call, context=context) for call in calls]

    assert refused(asked({"aws:SourceAccount": ACCOUNT})) == []
    assert allowed(asked(ELSEWHERE)) == []


OF_BUCKET = """PutBucketPolicy PutEncryptionConfiguration PutLifecycleConfiguration PutBucketTagging
    PutBucketNotification DeleteBucketPolicy DeleteBucket"""
OF_KEY = "PutKeyPolicy EnableKeyRotation DescribeKey TagResource ScheduleKeyDeletion"


@TENANT
def test_a_deployment_makes_changes_and_destroys_buckets_and_keys(account: Account, tenant: str) -> None:
    keys, buckets = stores(account, tenant, "key"), stores(account, tenant, "bucket")
    calls = [(f"s3:{name}", one) for one in buckets for name in OF_BUCKET.split()]
    calls += [(f"kms:{name}", one) for one in keys for name in OF_KEY.split()]
    for_service = {"kms:GrantIsForAWSResource": "true", "kms:ViaService": f"es.{REGION}.amazonaws.com"}
    encrypting = [one for one in keys if one.logical_id != "ReceiptKey"]
    grants = [by_person(EXECUTION_ROLE, "kms:CreateGrant", one, context=for_service) for one in encrypting]
    assert refused([*(by_person(EXECUTION_ROLE, *call) for call in calls), *grants]) == []


@TENANT
def test_a_deployment_uses_keys_through_services_alone(account: Account, tenant: str) -> None:
    key, actions = account.store(tenant, "DataKey"), ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey")
    through = [{"kms:ViaService": f"{name}.{REGION}.amazonaws.com"} for name in ("dynamodb", "lambda")]
    asked = [by_person(EXECUTION_ROLE, action, key, context=via) for via in through for action in actions]
    assert refused(asked) == []
    itself = [
        by_person(EXECUTION_ROLE, action, one)
        for one in stores(account, tenant, "key")
        for action in ("kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant")
    ]
    assert allowed(itself) == []


@TENANT
def test_an_administrator_administers_and_reads_nothing(account: Account, tenant: str) -> None:
    keys, buckets = stores(account, tenant, "key"), stores(account, tenant, "bucket")
    uses = [(f"kms:{name}", one) for one in keys for name in ("Decrypt", "Encrypt", "GenerateDataKey")]
    uses += [("kms:CreateGrant", one) for one in keys] + [("s3:ListBucket", one) for one in buckets]
    objects = [
        by_person(ADMINISTRATOR, f"s3:{name}Object", one, inside="/x")
        for one in buckets
        for name in ("Get", "Put", "Delete")
    ]
    assert allowed([*(by_person(ADMINISTRATOR, *use) for use in uses), *objects]) == []
    administers = [("kms:PutKeyPolicy", one) for one in keys]
    administers += [("s3:PutBucketPolicy", one) for one in buckets]
    assert refused([by_person(ADMINISTRATOR, *call) for call in administers]) == []
