"""Separation of duties in a tenant: who may write and read raw captured calls, who may put model artifacts,
and what a pusher may do."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.stacks.rights.deployed import as_deployed, let, request
from tests.stacks.rights.evaluator import Request, judge
from tests.stacks.rights.isolation import ANYTHING, key_requests
from tests.stacks.rights.model import Account, Store
from tests.stacks.rights.requests import ACCOUNT, context_of

MADE_BY_CDK = re.compile(r"[0-9A-F]{8}$")
TENANT = pytest.mark.parametrize("tenant", ["pharmacy", "clinic"])


@TENANT
def test_the_closer_of_audit_days_alone_puts_into_the_trail_s_bucket(account: Account, tenant: str) -> None:
    (closer,) = let(account, tenant, "TrailBucket", "s3:PutObject")
    assert closer.startswith("CloseAuditRole")


@TENANT
def test_sagemaker_alone_puts_into_the_quarantine(account: Account, tenant: str) -> None:
    embedding, llm = sorted(let(account, tenant, "QuarantineBucket", "s3:PutObject"))
    assert embedding.startswith("EmbeddingRole")
    assert llm.startswith("LlmRole")


@TENANT
@pytest.mark.parametrize("endpoint", ["Llm", "Embedding"])
def test_a_captured_call_passes_bucket_and_key(account: Account, tenant: str, endpoint: str) -> None:
    """SageMaker writes with the endpoint's role, limited by its policies and boundary."""
    role = account.role(tenant, f"{endpoint}Role")
    bucket = account.store(tenant, "QuarantineBucket")
    folders = {f"s3://{bucket.arn.rpartition(':')[2]}/{one}/" for one in ("llm", "embedding")}
    assert account.captured[tenant] == folders
    assert role.boundary
    put = replace(
        request(role, "s3:PutObject", bucket, inside=f"/{endpoint.lower()}/AllTraffic/2026/11/20/00/x.jsonl"),
        identity=tuple(role.policies.values()),
        boundary=account.policies[role.boundary],
    )
    key = next(one for one in account.stores if one.arn == bucket.key)
    used = list(key_requests(account, role, "s3:PutObject", key))
    assert judge([put])[0].is_allowed
    assert any(judgement.is_allowed for judgement in judge(used))


@TENANT
@pytest.mark.parametrize(
    "action", ["s3:GetObject", "s3:GetObjectVersion", "s3:DeleteObject", "s3:DeleteObjectVersion"]
)
def test_the_redactor_alone_reads_and_deletes_what_is_in_quarantine(
    account: Account, tenant: str, action: str
) -> None:
    (role,) = let(account, tenant, "QuarantineBucket", action)
    assert role.startswith("RedactRole")


@TENANT
def test_the_redactor_alone_puts_clean_captured_calls(account: Account, tenant: str) -> None:
    (role,) = let(account, tenant, "CaptureBucket", "s3:PutObject")
    assert role.startswith("RedactRole")


@TENANT
@pytest.mark.parametrize(
    ("bucket", "readers"),
    [
        ("LabelsBucket", {"SetsRole"}),
        ("FeedbackBucket", {"FunctionsMoveRole", "SetsRole"}),
    ],
)
def test_feedback_is_read_by_what_learns_alone(
    account: Account, tenant: str, bucket: str, readers: set[str]
) -> None:
    """The service, whatever its policies allow, reads neither labels nor texts."""
    for action in ("s3:GetObject", "s3:GetObjectVersion"):
        roles = let(account, tenant, bucket, action)
        assert {MADE_BY_CDK.sub("", role) for role in roles} == readers


@TENANT
@pytest.mark.parametrize("bucket", ["LabelsBucket", "FeedbackBucket"])
def test_the_mover_alone_puts_feedback(account: Account, tenant: str, bucket: str) -> None:
    roles = let(account, tenant, bucket, "s3:PutObject")
    assert {MADE_BY_CDK.sub("", role) for role in roles} == {"FunctionsMoveRole"}


@TENANT
def test_a_label_passes_policies_boundary_bucket_and_key(account: Account, tenant: str) -> None:
    mover, preparer = (account.role(tenant, name) for name in ("FunctionsMoveRole", "SetsRole"))
    bucket = account.store(tenant, "LabelsBucket")
    key = next(one for one in account.stores if one.arn == bucket.key)
    inside = "/events/dt=2026-11-20/aa.jsonl"
    for role, action in ((mover, "s3:PutObject"), (preparer, "s3:GetObject")):
        used = list(key_requests(account, role, action, key))
        assert judge([as_deployed(account, role, action, bucket, inside=inside)])[0].is_allowed
        assert any(judgement.is_allowed for judgement in judge(used))
    for role, action in ((mover, "s3:GetObject"), (preparer, "s3:PutObject")):
        assert not judge([as_deployed(account, role, action, bucket, inside=inside)])[0].is_allowed


@TENANT
@pytest.mark.parametrize(
    ("partition", "is_let"),
    [
        ("item#case#a1", True),
        ("item#case_index#agent-a1", True),
        ("item#act_request#erase-a1", True),
        ("item#approved_answer#a1", False),
        ("item#router_release#router-000001", False),
    ],
)
def test_the_mover_puts_only_its_own_kinds_on_the_desk(
    account: Account, tenant: str, partition: str, is_let: bool
) -> None:
    role, desk = account.role(tenant, "FunctionsMoveRole"), account.store(tenant, "DeskTable")
    put = as_deployed(account, role, "dynamodb:PutItem", desk)
    put = replace(put, context={**put.context, "dynamodb:LeadingKeys": partition})
    assert judge([put])[0].is_allowed is is_let


@TENANT
@pytest.mark.parametrize("bucket", ["LabelsBucket", "FeedbackBucket"])
@pytest.mark.parametrize("action", ["s3:DeleteObject", "s3:DeleteObjectVersion"])
def test_no_role_deletes_feedback(account: Account, tenant: str, bucket: str, action: str) -> None:
    assert let(account, tenant, bucket, action) == set()


@TENANT
@pytest.mark.parametrize("action", ["s3:BypassGovernanceRetention", "s3:PutObjectRetention"])
def test_no_role_shortens_the_lock_of_a_label_or_of_the_trail(
    account: Account, tenant: str, action: str
) -> None:
    for bucket in ("LabelsBucket", "TrailBucket"):
        assert let(account, tenant, bucket, action) == set()


@TENANT
def test_the_publisher_alone_puts_model_artifacts(account: Account, tenant: str) -> None:
    (role,) = let(account, tenant, "ModelsBucket", "s3:PutObject")
    assert role.startswith("ArtifactPublisher")


@pytest.mark.parametrize("inside", ["/llm/name/hash/model.pt", "/callers/model/artifact.json", "/compiled/x"])
@TENANT
def test_a_compile_job_alone_puts_what_it_compiled_and_puts_it_nowhere_else(
    account: Account, tenant: str, inside: str
) -> None:
    """A publisher reads it there, and copies it."""
    models = account.store(tenant, "ModelsBucket")
    put = [request(role, "s3:PutObject", models, inside=inside) for role in account.of(tenant)[0]]
    names = [role.logical_id for role in account.of(tenant)[0]]
    admitted = [name for name, judgement in zip(names, judge(put), strict=True) if judgement.is_allowed]
    job, role = account.role(tenant, "Compiling"), account.role(tenant, "ArtifactPublisher")
    wanted, other = (job, role) if inside == "/compiled/x" else (role, job)
    assert admitted == [wanted.logical_id]
    (own, foreign, read) = judge(
        [
            as_deployed(account, wanted, "s3:PutObject", models, inside=inside),
            as_deployed(account, other, "s3:PutObject", models, inside=inside),
            as_deployed(account, role, "s3:GetObject", models, inside=inside),
        ]
    )
    assert (own.is_allowed, foreign.is_allowed, read.is_allowed) == (True, False, True)


@TENANT
def test_a_compile_job_reads_models_and_no_other_store(account: Account, tenant: str) -> None:
    job = account.role(tenant, "Compiling")
    stores = [one for one in account.of(tenant)[1] if one.kind == "bucket"]
    asked = [as_deployed(account, job, "s3:GetObject", bucket, inside="/llm/x") for bucket in stores]
    read = [
        bucket.logical_id
        for bucket, judgement in zip(stores, judge(asked), strict=True)
        if judgement.is_allowed
    ]
    assert [name for name in read if not name.startswith("ModelsBucket")] == []
    assert len(read) == 1
    deleted = as_deployed(account, job, "s3:DeleteObject", stores[0], inside="/compiled/x")
    assert not judge([deleted])[0].is_allowed


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
def test_an_artifact_passes_policies_boundary_bucket_and_key(account: Account, tenant: str) -> None:
    role = account.role(tenant, "ArtifactPublisher")
    bucket = account.store(tenant, "ModelsBucket")
    (models_key,) = (one for one in account.stores if one.arn == bucket.key)
    places = ("/llm/name/hash/model.pt", "/embedding/name/hash/config.json", "/callers/model/tokenizer.json")
    asked = [
        as_deployed(account, role, action, bucket, inside=key)
        for action in ("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload")
        for key in places
    ]
    used = [[*key_requests(account, role, action, models_key)] for action in ("s3:PutObject", "s3:GetObject")]
    elsewhere = as_deployed(account, role, "s3:PutObject", bucket, inside="/elsewhere/x")
    assert [str(judgement) for judgement in judge(asked) if not judgement.is_allowed] == []
    assert all(any(judgement.is_allowed for judgement in judge(ways)) for ways in used)
    assert not judge([elsewhere])[0].is_allowed


@TENANT
def test_a_publisher_takes_nothing_away_and_opens_no_other_store(account: Account, tenant: str) -> None:
    role = account.role(tenant, "ArtifactPublisher")
    models = account.store(tenant, "ModelsBucket")
    others = [one for one in account.of(tenant)[1] if one.kind == "bucket" and one is not models]
    asked = [
        as_deployed(account, role, "s3:DeleteObject", models, inside="/llm/name/hash/config.json"),
        as_deployed(account, role, "s3:PutBucketPolicy", models),
        *(
            as_deployed(account, role, action, bucket, inside="/llm/x")
            for bucket in others
            for action in ("s3:GetObject", "s3:PutObject")
        ),
    ]
    assert [str(judgement) for judgement in judge(asked) if judgement.is_allowed] == []


@TENANT
def test_no_role_but_a_pushers_puts_into_the_inbox(account: Account, tenant: str) -> None:
    named = {"pharmacy": 1, "clinic": 0}[tenant]
    roles, inbox = account.of(tenant)[0], account.store(tenant, "InboxBucket")
    asked = [request(role, "s3:PutObject", inbox, inside="/procedures/x") for role in roles]
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
    asked = [request(role, "s3:PutObject", inbox, inside=key, tags=tags) for key, tags in places]
    assert [judgement.is_allowed for judgement in judge(asked)] == [True, False, False, False, False]


@TENANT
def test_an_upload_passes_policies_boundary_bucket_and_key(account: Account, tenant: str) -> None:
    service, reader = (account.role(tenant, name) for name in ("TaskRole", "ReceiveRole"))
    inbox = account.store(tenant, "InboxBucket")
    key = next(one for one in account.stores if one.arn == inbox.key)
    content, result = "/.uploads/aa/content", "/.uploads/aa/result.json"
    let_do = [
        *((service, f"s3:{name}", content) for name in ("PutObject", "GetObject", "AbortMultipartUpload")),
        (service, "s3:ListBucketMultipartUploads", ""),
        (service, "s3:GetObject", result),
        (reader, "s3:GetObject", content),
        (reader, "s3:PutObject", result),
        (reader, "s3:DeleteObject", content),
    ]
    refused = [
        (service, "s3:DeleteObject", content),
        (service, "s3:PutObject", "/wiki/page.html"),
        (service, "s3:GetObject", "/wiki/page.html"),
        (reader, "s3:PutObject", content),
        (reader, "s3:DeleteObject", "/wiki/page.html"),
    ]
    for calls, is_let in ((let_do, True), (refused, False)):
        asked = [as_deployed(account, role, action, inbox, inside=inside) for role, action, inside in calls]
        assert [str(judgement) for judgement in judge(asked) if judgement.is_allowed is not is_let] == []
    documents = account.store(tenant, "DocumentsBucket")
    read_again = [("s3:GetObject", "/documents/aa"), ("s3:PutObject", "/documents/aa"), ("s3:ListBucket", "")]
    asked = [as_deployed(account, reader, action, documents, inside=inside) for action, inside in read_again]
    assert [str(judgement) for judgement in judge(asked) if not judgement.is_allowed] == []
    for role in (service, reader):
        for action in ("s3:PutObject", "s3:GetObject"):
            used = list(key_requests(account, role, action, key))
            assert any(judgement.is_allowed for judgement in judge(used))


@TENANT
def test_a_writer_names_no_other_key_than_the_buckets_own(account: Account, tenant: str) -> None:
    role = account.role(tenant, "IngestRole")
    bucket = account.store(tenant, "DocumentsBucket")
    header = "s3:x-amz-server-side-encryption-aws-kms-key-id"
    put = request(role, "s3:PutObject", bucket, inside="/documents/x")
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


def test_a_trial_s_role_reads_artifacts_and_nothing_else(account: Account) -> None:
    role, models = account.role("clinic", "TrialsRole"), account.store("clinic", "ModelsBucket")
    documents = account.store("clinic", "DocumentsBucket")
    key = next(one for one in account.stores if one.arn == models.key)
    read = as_deployed(account, role, "s3:GetObject", models, inside="/llm/a-candidate/0/config.json")
    refused = [
        as_deployed(account, role, "s3:GetObject", models, inside="/callers/a/artifact.json"),
        as_deployed(account, role, "s3:PutObject", models, inside="/llm/a-candidate/0/config.json"),
        as_deployed(account, role, "s3:GetObject", documents, inside="/documents/x"),
    ]

    assert judge([read])[0].is_allowed
    assert [str(judgement) for judgement in judge(refused) if judgement.is_allowed] == []
    used = list(key_requests(account, role, "s3:GetObject", key))
    assert any(judgement.is_allowed for judgement in judge(used))


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
