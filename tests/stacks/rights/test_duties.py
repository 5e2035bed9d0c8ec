"""Separation of duties in a tenant: who may write and read raw captured calls, feedback and audit digests,
put model artifacts or push files, and what the task that makes training sets may do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.stacks.rights.isolation import ANYTHING, as_deployed, key_requests, let, unlimited_request
from tests.stacks.rights.model import Account, Store
from tests.stacks.rights.requests import ACCOUNT, KEY_USE, Request, context_of, judge

MADE_BY_CDK = re.compile(r"[0-9A-F]{8}$")
TENANT = pytest.mark.parametrize("tenant", ["pharmacy", "clinic"])
GET, GET_VERSION, PUT = "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"
DELETE, DELETE_VERSION = "s3:DeleteObject", "s3:DeleteObjectVersion"
ANYWHERE = "/llm/x"
LABEL, ARTIFACT, CALLER, COMPILED = (
    *("/events/dt=2026-11-20/aa.jsonl", "/llm/name/hash/model.pt"),
    *("/callers/model/artifact.json", "/compiled/x"),
)
ALONE: tuple[tuple[str, str, str, set[str]], ...] = (
    ("TrailBucket", PUT, ANYWHERE, {"CloseAuditRole"}),
    ("QuarantineBucket", PUT, ANYWHERE, {"EmbeddingRole", "LlmRole"}),
    *(("QuarantineBucket", does, ANYWHERE, {"RedactRole"}) for does in (GET, GET_VERSION)),
    *(("QuarantineBucket", does, ANYWHERE, {"RedactRole"}) for does in (DELETE, DELETE_VERSION)),
    ("CaptureBucket", PUT, ANYWHERE, {"RedactRole"}),
    # The service, whatever its policies allow, reads neither labels nor texts.
    *(("LabelsBucket", does, ANYWHERE, {"SetsRole"}) for does in (GET, GET_VERSION)),
    *(("FeedbackBucket", does, ANYWHERE, {"FunctionsMoveRole", "SetsRole"}) for does in (GET, GET_VERSION)),
    *((f"{name}Bucket", PUT, ANYWHERE, {"FunctionsMoveRole"}) for name in ("Labels", "Feedback")),
    *(
        (f"{name}Bucket", does, ANYWHERE, set[str]())
        for name in ("Labels", "Feedback")
        for does in (DELETE, DELETE_VERSION)
    ),
    *(
        (f"{name}Bucket", f"s3:{does}", ANYWHERE, set[str]())
        for name in ("Labels", "Trail")
        for does in ("BypassGovernanceRetention", "PutObjectRetention")
    ),
    *(("ModelsBucket", PUT, inside, {"ArtifactPublisher"}) for inside in (ANYWHERE, ARTIFACT, CALLER)),
    ("ModelsBucket", PUT, COMPILED, {"CompilingRole"}),
    ("InboxBucket", PUT, ANYWHERE, set()),
)
"""Bucket, action and key = the roles that its policy admits, if each role may do anything."""
Row = tuple[str, str, str, str]
"""Role, action, store, and the key of an object or the partition of a row."""
CONTENT, RESULT, PUSHED = "/.uploads/aa/content", "/.uploads/aa/result.json", "/wiki/page.html"
HELD: tuple[Row, ...] = (
    ("LlmRole", PUT, "QuarantineBucket", "/llm/AllTraffic/2026/11/20/00/x.jsonl"),
    ("EmbeddingRole", PUT, "QuarantineBucket", "/embedding/AllTraffic/2026/11/20/00/x.jsonl"),
    ("FunctionsMoveRole", PUT, "LabelsBucket", LABEL),
    *(
        ("FunctionsMoveRole", "dynamodb:PutItem", "DeskTable", f"item#{kind}")
        for kind in ("case#a1", "case_index#agent-a1", "act_request#erase-a1")
    ),
    ("SetsRole", GET, "LabelsBucket", LABEL),
    ("SetsRole", GET, "FeedbackBucket", "/texts/00/00.json"),
    ("SetsRole", GET, "DocumentsBucket", "/documents/aa"),
    ("SetsRole", PUT, "TrainingBucket", "/sets/pharmacy-0123/manifest.json"),
    ("SetsRole", "dynamodb:BatchGetItem", "RecordsTable", "answer#a1"),
    ("SetsRole", "dynamodb:GetItem", "StatesTable", "documents"),
    ("SetsRole", "dynamodb:BatchGetItem", "EventsTable", "erasure#document:refill"),
    ("SetsRole", "dynamodb:Query", "DeskTable", "newest#approved_answer"),
    ("SetsRole", "dynamodb:BatchGetItem", "DeskTable", "item#approved_answer#a1"),
    *(
        ("ArtifactPublisher", action, "ModelsBucket", key)
        for action in (PUT, GET, "s3:AbortMultipartUpload")
        for key in (ARTIFACT, "/embedding/name/hash/config.json", "/callers/model/tokenizer.json")
    ),
    ("ArtifactPublisher", GET, "ModelsBucket", COMPILED),
    ("Compiling", PUT, "ModelsBucket", COMPILED),
    ("Compiling", GET, "ModelsBucket", ANYWHERE),
    *(("TaskRole", action, "InboxBucket", CONTENT) for action in (PUT, GET, "s3:AbortMultipartUpload")),
    ("TaskRole", "s3:ListBucketMultipartUploads", "InboxBucket", ""),
    ("TaskRole", GET, "InboxBucket", RESULT),
    *(("ReceiveRole", action, "InboxBucket", CONTENT) for action in (GET, DELETE)),
    ("ReceiveRole", PUT, "InboxBucket", RESULT),
    *(("ReceiveRole", action, "DocumentsBucket", "/documents/aa") for action in (GET, PUT)),
    ("ReceiveRole", "s3:ListBucket", "DocumentsBucket", ""),
)
REFUSED: tuple[Row, ...] = (
    ("FunctionsMoveRole", GET, "LabelsBucket", LABEL),
    ("FunctionsMoveRole", "dynamodb:PutItem", "DeskTable", "item#approved_answer#a1"),
    ("FunctionsMoveRole", "dynamodb:PutItem", "DeskTable", "item#router_release#router-000001"),
    ("SetsRole", GET, "TrainingBucket", "/sets/x"),
    ("SetsRole", PUT, "TrainingBucket", "/checkpoints/x"),
    ("SetsRole", DELETE, "TrainingBucket", "/sets/x"),
    ("SetsRole", PUT, "LabelsBucket", LABEL),
    ("SetsRole", PUT, "FeedbackBucket", "/texts/x"),
    ("SetsRole", PUT, "DocumentsBucket", "/documents/x"),
    ("SetsRole", GET, "CaptureBucket", "/any"),
    ("SetsRole", GET, "QuarantineBucket", "/any"),
    *(("SetsRole", action, "ModelsBucket", ANYWHERE) for action in (GET, PUT)),
    ("SetsRole", GET, "InboxBucket", "/wiki/x"),
    ("SetsRole", "dynamodb:GetItem", "RecordsTable", "access#2026-11-20"),
    ("SetsRole", "dynamodb:PutItem", "RecordsTable", "answer#a1"),
    ("SetsRole", "dynamodb:GetItem", "EventsTable", "stream#a1"),
    ("SetsRole", "dynamodb:UpdateItem", "EventsTable", "erasure#document:refill"),
    ("SetsRole", "dynamodb:Query", "DeskTable", "newest#case"),
    ("SetsRole", "dynamodb:PutItem", "DeskTable", "item#approved_answer#a1"),
    ("SetsRole", "dynamodb:BatchWriteItem", "StatesTable", "documents"),
    ("TaskRole", GET, "TrainingBucket", "/sets/x"),
    ("ArtifactPublisher", PUT, "ModelsBucket", "/elsewhere/x"),
    ("ArtifactPublisher", PUT, "ModelsBucket", COMPILED),
    ("ArtifactPublisher", DELETE, "ModelsBucket", "/llm/name/hash/config.json"),
    ("ArtifactPublisher", "s3:PutBucketPolicy", "ModelsBucket", ""),
    *(("Compiling", PUT, "ModelsBucket", key) for key in (ARTIFACT, CALLER)),
    ("Compiling", DELETE, "ModelsBucket", COMPILED),
    ("TaskRole", DELETE, "InboxBucket", CONTENT),
    *(("TaskRole", action, "InboxBucket", PUSHED) for action in (PUT, GET)),
    ("ReceiveRole", PUT, "InboxBucket", CONTENT),
    ("ReceiveRole", DELETE, "InboxBucket", PUSHED),
)
TRIALS: tuple[Row, ...] = (
    ("TrialsRole", GET, "ModelsBucket", "/callers/a/artifact.json"),
    ("TrialsRole", PUT, "ModelsBucket", "/llm/a-candidate/0/config.json"),
    ("TrialsRole", GET, "DocumentsBucket", "/documents/x"),
)
"""What a trial's role may not do, of the clinic, which tries candidates."""


def requests_of(account: Account, tenant: str, rows: tuple[Row, ...]) -> Iterator[Request]:
    """Yield what IAM is asked, by the role's own policies, its boundary and the store's policy."""
    for name, action, place, inside in rows:
        role, store = account.role(tenant, name), account.store(tenant, place)
        if store.kind == "table":
            made = as_deployed(account, role, action, store)
            yield replace(made, context={**made.context, "dynamodb:LeadingKeys": inside})
        else:
            yield as_deployed(account, role, action, store, inside=inside)


def key_of(account: Account, store: Store) -> Store:
    return next(one for one in account.stores if one.arn == store.key)


@TENANT
@pytest.mark.parametrize(("bucket", "action", "inside", "roles"), ALONE)
def test_a_bucket_admits_those_alone_whose_duty_it_is(
    account: Account, tenant: str, bucket: str, action: str, inside: str, roles: set[str]
) -> None:
    admitted = let(account, tenant, bucket, action, inside=inside)
    assert {MADE_BY_CDK.sub("", role) for role in admitted} == roles


@TENANT
def test_a_duty_passes_policies_boundary_store_and_key(account: Account, tenant: str) -> None:
    rows = (*HELD, *((("TrialsRole", GET, "ModelsBucket", TRIALS[1][3]),) if tenant == "clinic" else ()))
    assert [str(one) for one in judge(requests_of(account, tenant, rows)) if not one.is_allowed] == []
    uses = {(name, action, place) for name, action, place, _ in rows if action in KEY_USE}
    assert len(uses) > 15
    for name, action, place in sorted(uses):
        key = key_of(account, account.store(tenant, place))
        used = key_requests(account, account.role(tenant, name), action, key)
        assert any(one.is_allowed for one in judge(used)), (name, action, place)


@TENANT
def test_a_duty_ends_there(account: Account, tenant: str) -> None:
    buckets = [one for one in account.of(tenant)[1] if one.kind == "bucket"]
    models = account.store(tenant, "ModelsBucket")
    every = [
        as_deployed(account, account.role(tenant, name), action, bucket, inside=ANYWHERE)
        for name, actions in (("ArtifactPublisher", (GET, PUT)), ("Compiling", (GET,)))
        for action in actions
        for bucket in buckets
        if bucket is not models
    ]
    rows = REFUSED + (TRIALS if tenant == "clinic" else ())
    asked = [*every, *requests_of(account, tenant, rows)]
    assert [str(one) for one in judge(asked) if one.is_allowed] == []


@TENANT
def test_calls_are_captured_into_the_quarantine_alone(account: Account, tenant: str) -> None:
    name = account.store(tenant, "QuarantineBucket").arn.rpartition(":")[2]
    assert account.captured[tenant] == {f"s3://{name}/{one}/" for one in ("llm", "embedding")}


@TENANT
def test_the_bucket_of_training_admits_the_tenant_s_roles_whose_policies_decide(
    account: Account, tenant: str
) -> None:
    assert let(account, tenant, "TrainingBucket", GET)


@TENANT
def test_no_role_of_a_tenant_passes_the_role_of_compile_jobs(account: Account, tenant: str) -> None:
    """Whoever starts one acts with rights of the company's own."""
    models, job = account.store(tenant, "ModelsBucket"), account.role(tenant, "Compiling")
    asked = [
        replace(as_deployed(account, role, "iam:PassRole", models), resource=job.arn, resource_policy=None)
        for role in account.of(tenant)[0]
        if role.boundary
    ]
    assert asked
    assert [str(judgement) for judgement in judge(asked) if judgement.is_allowed] == []


@TENANT
def test_no_role_but_a_pushers_puts_into_the_inbox(account: Account, tenant: str) -> None:
    named = {"pharmacy": 1, "clinic": 0}[tenant]
    roles, inbox = account.of(tenant)[0], account.store(tenant, "InboxBucket")
    asked = [unlimited_request(role, "s3:PutObject", inbox, inside="/procedures/x") for role in roles]
    allowed = [role for role, judgement in zip(roles, judge(asked), strict=True) if judgement.is_allowed]
    assert [role.tags["duty"] for role in allowed] == ["pusher"] * named
    assert let(account, tenant, "InboxBucket", "s3:PutObject") == set()


def test_the_role_of_a_source_s_pushers_puts_and_reads_its_own_and_reaches_nothing_else(
    account: Account,
) -> None:
    """By its own policies, its boundary, the bucket's policy and the key's: first what the owner may."""
    role = account.role("pharmacy", "PushersProcedures")
    inbox = account.store("pharmacy", "InboxBucket")
    key = next(one for one in account.stores if one.arn == inbox.key)

    def asked(action: str, inside: str, of: Store = inbox, /, **context: str) -> Request:
        found = as_deployed(account, role, action, of, inside=inside)
        return replace(found, context={**found.context, **context})

    own, other = ".uploads/pushed/procedures/", ".uploads/pushed/other/"
    may = [
        asked("s3:PutObject", "/procedures/page.md"),
        asked("s3:AbortMultipartUpload", "/procedures/page.md"),
        asked("s3:GetObject", f"/{own}v1/result.json"),
        asked("s3:ListBucket", "", **{"s3:prefix": f"{own}v1/result.json"}),
        asked("kms:GenerateDataKey", "", key, **{"kms:ViaService": "s3.us-east-1.amazonaws.com"}),
    ]
    buckets = [one for one in account.stores if one.kind == "bucket" and one is not inbox]
    may_not = [
        asked("s3:PutObject", "/other/page.md"),
        asked("s3:PutObject", f"/{own}v1/result.json"),
        asked("s3:GetObject", "/procedures/page.md"),
        asked("s3:GetObject", f"/{other}v1/result.json"),
        asked("s3:GetObject", "/.uploads/aa/bb/content"),
        asked("s3:ListBucket", "", **{"s3:prefix": other}),
        asked("s3:ListBucket", ""),
        *(
            asked(action, inside)
            for action in ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObjectVersion")
            for inside in ("/procedures/page.md", f"/{own}v1/result.json")
        ),
        asked("kms:Decrypt", "", key),
        *(
            asked(action, inside, bucket)
            for bucket in buckets
            for action, inside in (
                ("s3:GetObject", "/documents/aa"),
                ("s3:GetObject", f"/{own}v1/result.json"),
                ("s3:PutObject", "/procedures/page.md"),
                ("s3:ListBucket", ""),
            )
        ),
    ]
    assert [str(judgement) for judgement in judge(may) if not judgement.is_allowed] == []
    assert [str(judgement) for judgement in judge(may_not) if judgement.is_allowed] == []
    anything = [replace(each, identity=(ANYTHING,)) for each in may_not if "kms:" not in each.action]
    of_the_tenant = [each for each in anything if each.resource.startswith(inbox.arn)]
    assert [str(judgement) for judgement in judge(of_the_tenant) if judgement.is_allowed] == []


@TENANT
def test_uploaders_alone_put_uploads_and_put_nothing_else(account: Account, tenant: str) -> None:
    role, inbox = account.of(tenant)[0][0], account.store(tenant, "InboxBucket")
    upload, pushed = "/.uploads/aa/content", "/wiki/page.html"
    uploader, pusher = {"duty": "uploader"}, {"duty": "pusher", "inbox": "wiki"}
    places = [
        (upload, uploader),
        (pushed, uploader),
        (upload, pusher),
        (upload, {**pusher, "inbox": ".uploads"}),
        (upload, {"duty": "learner"}),
    ]
    asked = [unlimited_request(role, "s3:PutObject", inbox, inside=key, tags=tags) for key, tags in places]
    assert [judgement.is_allowed for judgement in judge(asked)] == [True, False, False, False, False]


@TENANT
def test_a_writer_names_no_other_key_than_the_buckets_own(account: Account, tenant: str) -> None:
    role = account.role(tenant, "IngestRole")
    bucket = account.store(tenant, "DocumentsBucket")
    header = "s3:x-amz-server-side-encryption-aws-kms-key-id"
    put = unlimited_request(role, "s3:PutObject", bucket, inside="/documents/x")
    foreign = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/00000000-0000-4000-8000-000000000000"
    own, other, unsaid = judge(
        [
            replace(put, context={**put.context, header: str(bucket.key)}),
            replace(put, context={**put.context, header: foreign}),
            put,
        ]
    )
    assert own.is_allowed
    assert unsaid.is_allowed
    assert not other.is_allowed


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("DeleteEndpoint", "endpoint"),
        ("DeleteEndpointConfig", "endpoint-config"),
        ("DeleteModel", "model"),
    ],
)
def test_the_clean_up_role_deletes_nothing_that_serves(account: Account, kind: str, place: str) -> None:
    role = account.role("clinic", "TrialsCleanUpRole")

    def deletes(name: str) -> bool:
        asked = Request(
            principal=role.arn,
            action=f"sagemaker:{kind}",
            resource=f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:{place}/{name}",
            account=ACCOUNT,
            context={**context_of(role), "aws:RequestedRegion": "us-east-1", "aws:ResourceAccount": ACCOUNT},
            identity=tuple(role.policies.values()),
            boundary=account.policies[role.boundary or ""],
        )
        return judge([asked])[0].is_allowed

    assert deletes("assistant-clinic-trial-1")
    assert not any(map(deletes, ("assistant-clinic-trial-4", "clinic-llm", "assistant-pharmacy-trial-1")))
