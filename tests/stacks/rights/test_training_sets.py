"""What the task that makes training sets may do, by its policies, boundary, buckets and keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.stacks.rights.deployed import as_deployed, let
from tests.stacks.rights.evaluator import Request, judge
from tests.stacks.rights.isolation import key_requests
from tests.stacks.rights.model import Account

TENANT = pytest.mark.parametrize("tenant", ["pharmacy", "clinic"])
READS = (
    ("LabelsBucket", "s3:GetObject", "/events/dt=2026-11-20/aa.jsonl"),
    ("FeedbackBucket", "s3:GetObject", "/texts/00/00.json"),
    ("DocumentsBucket", "s3:GetObject", "/documents/aa"),
    ("TrainingBucket", "s3:PutObject", "/sets/pharmacy-0123/manifest.json"),
)
ITEMS = (
    ("RecordsTable", "dynamodb:BatchGetItem", "answer#a1"),
    ("StatesTable", "dynamodb:GetItem", "documents"),
    ("EventsTable", "dynamodb:BatchGetItem", "erasure#document:refill"),
    ("DeskTable", "dynamodb:Query", "newest#approved_answer"),
    ("DeskTable", "dynamodb:BatchGetItem", "item#approved_answer#a1"),
)
DENIED = (
    ("TrainingBucket", "s3:GetObject", "/sets/x"),
    ("TrainingBucket", "s3:PutObject", "/checkpoints/x"),
    ("TrainingBucket", "s3:DeleteObject", "/sets/x"),
    ("LabelsBucket", "s3:PutObject", "/events/x"),
    ("FeedbackBucket", "s3:PutObject", "/texts/x"),
    ("DocumentsBucket", "s3:PutObject", "/documents/x"),
    ("CaptureBucket", "s3:GetObject", "/any"),
    ("QuarantineBucket", "s3:GetObject", "/any"),
    ("ModelsBucket", "s3:GetObject", "/llm/x"),
    ("ModelsBucket", "s3:PutObject", "/llm/x"),
    ("InboxBucket", "s3:GetObject", "/wiki/x"),
)
DENIED_ITEMS = (
    ("RecordsTable", "dynamodb:GetItem", "access#2026-11-20"),
    ("RecordsTable", "dynamodb:PutItem", "answer#a1"),
    ("EventsTable", "dynamodb:GetItem", "stream#a1"),
    ("EventsTable", "dynamodb:UpdateItem", "erasure#document:refill"),
    ("DeskTable", "dynamodb:Query", "newest#case"),
    ("DeskTable", "dynamodb:PutItem", "item#approved_answer#a1"),
    ("StatesTable", "dynamodb:BatchWriteItem", "documents"),
)


def asked(account: Account, tenant: str, rows: tuple[tuple[str, str, str], ...]) -> list[Request]:
    role = account.role(tenant, "SetsRole")
    return [
        as_deployed(account, role, action, account.store(tenant, name), inside=inside)
        for name, action, inside in rows
    ]


def of_items(account: Account, tenant: str, rows: tuple[tuple[str, str, str], ...]) -> list[Request]:
    requests = asked(account, tenant, tuple((name, action, "") for name, action, _ in rows))
    return [
        replace(request, context={**request.context, "dynamodb:LeadingKeys": partition})
        for request, (_, _, partition) in zip(requests, rows, strict=True)
    ]


@TENANT
def test_it_reads_what_a_set_is_made_of_and_puts_sets(account: Account, tenant: str) -> None:
    requests = [*asked(account, tenant, READS), *of_items(account, tenant, ITEMS)]
    assert [str(one) for one in judge(requests) if not one.is_allowed] == []


@TENANT
def test_it_may_use_the_keys_of_what_it_reads_and_puts(account: Account, tenant: str) -> None:
    role = account.role(tenant, "SetsRole")
    for name, action in [(name, action) for name, action, _ in (*READS, *ITEMS)]:
        arn = account.store(tenant, name).key
        key = next(one for one in account.stores if one.arn == arn)
        assert any(one.is_allowed for one in judge(key_requests(account, role, action, key))), name


@TENANT
def test_it_reads_and_writes_nothing_else(account: Account, tenant: str) -> None:
    requests = [*asked(account, tenant, DENIED), *of_items(account, tenant, DENIED_ITEMS)]
    assert [str(one) for one in judge(requests) if one.is_allowed] == []


@TENANT
def test_no_role_of_the_service_reads_sets(account: Account, tenant: str) -> None:
    """Buckets of learning admit the tenant's roles; their policies decide, and the service's have no word."""
    assert let(account, tenant, "TrainingBucket", "s3:GetObject"), "the bucket admits roles by the tenant"
    role = account.role(tenant, "TaskRole")
    asked_for = as_deployed(
        account, role, "s3:GetObject", account.store(tenant, "TrainingBucket"), inside="/sets/x"
    )
    assert not judge([asked_for])[0].is_allowed
