"""The tenant's policies allow AWS's services what the product needs: capture, events, logs, alarms and
deployments. Deployers and break-glass roles get no more than they need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.stacks.rights.evaluator import Request, judge
from tests.stacks.rights.isolation import ANYTHING
from tests.stacks.rights.model import Account, Store
from tests.stacks.rights.requests import ACCOUNT, REGION, context_of

TENANT = pytest.mark.parametrize("tenant", ["pharmacy", "clinic"])
EXECUTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-{REGION}"
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


@TENANT
def test_each_log_group_may_use_its_key(account: Account, tenant: str) -> None:
    keys = {one.arn: one for one in stores(account, tenant, "key")}
    asked = [
        by_service(
            f"logs.{REGION}.amazonaws.com",
            action,
            keys[str(group.key)],
            context={"kms:EncryptionContext:aws:logs:arn": group.arn},
        )
        for group in stores(account, tenant, "log group")
        for action in ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey")
    ]
    assert refused(asked) == []


@TENANT
def test_the_logs_key_serves_no_group_of_another_tenant(account: Account, tenant: str) -> None:
    key = account.store({"pharmacy": "clinic", "clinic": "pharmacy"}[tenant], "LogsKey")
    context = {"kms:EncryptionContext:aws:logs:arn": stores(account, tenant, "log group")[0].arn}
    assert allowed([by_service(f"logs.{REGION}.amazonaws.com", "kms:Encrypt", key, context=context)]) == []


@TENANT
def test_event_rules_put_into_their_encrypted_queues(account: Account, tenant: str) -> None:
    key = account.store(tenant, "DataKey")
    fed = [queue for queue in stores(account, tenant, "queue") if "events.amazonaws.com" in str(queue.policy)]
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/"
    sent = [
        by_service("events.amazonaws.com", "sqs:SendMessage", queue, context={"aws:SourceArn": source})
        for queue in fed
        for source in _sources(queue)
    ]
    used = [
        by_service(
            "events.amazonaws.com",
            action,
            key,
            context={"kms:EncryptionContext:aws:sqs:arn": queue.arn},
        )
        for queue in fed
        for action in ("kms:GenerateDataKey", "kms:Decrypt")
    ]
    assert len(fed) >= 3
    assert refused([*sent, *used]) == []
    stray = [
        by_service(
            "events.amazonaws.com", "sqs:SendMessage", queue, context={"aws:SourceArn": f"{rule}stray"}
        )
        for queue in fed
    ]
    assert allowed(stray) == []


def _sources(queue: Store) -> list[str]:
    assert queue.policy
    return [
        str(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
        for statement in queue.policy["Statement"]
        if statement["Principal"] == {"Service": "events.amazonaws.com"}
    ]


@TENANT
def test_logs_are_delivered_to_the_logs_bucket(account: Account, tenant: str) -> None:
    bucket = account.store(tenant, "LogsBucket")
    assert account.logged[tenant] == {bucket.arn.rpartition(":")[2]}
    asked = [
        by_service(
            "logging.s3.amazonaws.com",
            "s3:PutObject",
            bucket,
            inside="/s3/DocumentsBucket/x",
            context={"aws:SourceAccount": ACCOUNT},
        ),
        by_service(
            "logdelivery.elasticloadbalancing.amazonaws.com",
            "s3:PutObject",
            bucket,
            inside=f"/alb/AWSLogs/{ACCOUNT}/elasticloadbalancing/x",
        ),
    ]
    assert refused(asked) == []
    of_another_account = {"aws:SourceAccount": "999999999999"}
    stray = replace(asked[0], context={**asked[0].context, **of_another_account})
    assert allowed([stray]) == []


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
    asked = [
        by_service(
            "cloudtrail.amazonaws.com",
            "s3:PutObject",
            bucket,
            inside=f"/cloudtrail/AWSLogs/{ACCOUNT}/CloudTrail/x",
            context={"aws:SourceArn": trail, "s3:x-amz-acl": "bucket-owner-full-control"},
        ),
        by_service(
            "logging.s3.amazonaws.com",
            "s3:PutObject",
            bucket,
            inside="/s3/DocumentsBucket/x",
            context={"aws:SourceAccount": ACCOUNT},
        ),
    ]
    assert allowed(asked) == []


@TENANT
def test_alarms_use_the_logs_key(account: Account, tenant: str) -> None:
    key = account.store(tenant, "LogsKey")
    topics = stores(account, tenant, "topic")
    assert topics
    of_alarm = {"aws:SourceAccount": ACCOUNT}
    asked = [
        by_service("cloudwatch.amazonaws.com", "kms:GenerateDataKey", key, context=of_alarm),
        by_service("cloudwatch.amazonaws.com", "kms:Decrypt", key, context=of_alarm),
        *(by_service("cloudwatch.amazonaws.com", "sns:Publish", topic, context=of_alarm) for topic in topics),
    ]
    assert refused(asked) == []
    elsewhere = {"aws:SourceAccount": "999999999999"}
    assert allowed([replace(one, context={**one.context, **elsewhere}) for one in asked]) == []


@TENANT
def test_a_deployment_makes_changes_and_destroys_buckets_and_keys(account: Account, tenant: str) -> None:
    of_bucket = (
        "s3:PutBucketPolicy",
        "s3:PutEncryptionConfiguration",
        "s3:PutLifecycleConfiguration",
        "s3:PutBucketTagging",
        "s3:PutBucketNotification",
        "s3:DeleteBucketPolicy",
        "s3:DeleteBucket",
    )
    of_key = ("kms:PutKeyPolicy", "kms:EnableKeyRotation", "kms:DescribeKey", "kms:TagResource")
    for_service = {"kms:GrantIsForAWSResource": "true", "kms:ViaService": f"es.{REGION}.amazonaws.com"}
    asked = [
        *(
            by_person(EXECUTION_ROLE, action, one)
            for one in stores(account, tenant, "bucket")
            for action in of_bucket
        ),
        *(
            by_person(EXECUTION_ROLE, action, one)
            for one in stores(account, tenant, "key")
            for action in (*of_key, "kms:ScheduleKeyDeletion")
        ),
        *(
            by_person(EXECUTION_ROLE, "kms:CreateGrant", one, context=for_service)
            for one in stores(account, tenant, "key")
            if one.logical_id != "ReceiptKey"  # it encrypts nothing
        ),
    ]
    assert refused(asked) == []


@TENANT
@pytest.mark.parametrize("service", ["dynamodb", "lambda"])
def test_a_deployment_makes_encrypted_tables_and_functions(
    account: Account, tenant: str, service: str
) -> None:
    key = account.store(tenant, "DataKey")
    via = {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}
    actions = ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey")
    assert refused([by_person(EXECUTION_ROLE, action, key, context=via) for action in actions]) == []


@TENANT
def test_a_deployment_decrypts_nothing_itself_and_grants_nothing_to_persons(
    account: Account, tenant: str
) -> None:
    asked = [
        by_person(EXECUTION_ROLE, action, key)
        for key in stores(account, tenant, "key")
        for action in ("kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant")
    ]
    assert allowed(asked) == []


@TENANT
def test_an_administrator_administers_and_reads_nothing(account: Account, tenant: str) -> None:
    keys, buckets = stores(account, tenant, "key"), stores(account, tenant, "bucket")
    reads = [
        *(
            by_person(ADMINISTRATOR, action, key)
            for key in keys
            for action in ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant")
        ),
        *(
            by_person(ADMINISTRATOR, action, bucket, inside="/x")
            for bucket in buckets
            for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")
        ),
        *(by_person(ADMINISTRATOR, "s3:ListBucket", bucket) for bucket in buckets),
    ]
    administers = [
        *(by_person(ADMINISTRATOR, "kms:PutKeyPolicy", key) for key in keys),
        *(by_person(ADMINISTRATOR, "s3:PutBucketPolicy", bucket) for bucket in buckets),
    ]
    assert allowed(reads) == []
    assert refused(administers) == []
