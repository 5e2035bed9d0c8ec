"""What must hold of the tenant's stores. Who passes their policies: ``tests.stacks.rights``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from moto.iam.aws_managed_policies import aws_managed_policies_data

from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployed_names import TABLES
from assistant.tenant.deployment import RETENTION
from stacks.data import DataStack
from stacks.outputs import Workload
from stacks.tenant import DeployedTenant
from tests.stacks.templates import allowed_on, statements_of
from tests.stacks.values import KEYS, NETWORK, deployed, resources_of, stack_with, template_of, with_sections

Template = Mapping[str, Any]
BUCKETS = {
    "DocumentsBucket": KEYS.data_key_arn,
    "FeedbackBucket": KEYS.feedback_key_arn,
    "LabelsBucket": KEYS.feedback_key_arn,
    "InboxBucket": KEYS.data_key_arn,
    "ModelsBucket": KEYS.models_key_arn,
    "QuarantineBucket": KEYS.capture_key_arn,
    "CaptureBucket": KEYS.capture_key_arn,
    "TrailBucket": KEYS.logs_key_arn,
}


def built(tenant: DeployedTenant) -> DataStack:
    return stack_with(DataStack, tenant)


@cache
def template_for(name: str) -> Template:
    return template_of(built(deployed(name)))


@pytest.fixture(params=["pharmacy", "clinic", "sandbox"])
def template(request: pytest.FixtureRequest) -> Template:
    return template_for(request.param)


@pytest.fixture
def hipaa() -> Template:
    return template_for("pharmacy")


def properties(template: Template, logical_id: str) -> Mapping[str, Any]:
    return template["Resources"][logical_id]["Properties"]


def statements(template: Template, bucket: str) -> list[Mapping[str, Any]]:
    (policy,) = (
        policy["Properties"]
        for policy in resources_of(template, "AWS::S3::BucketPolicy").values()
        if policy["Properties"]["Bucket"] == {"Ref": bucket}
    )
    return policy["PolicyDocument"]["Statement"]


def test_every_bucket_is_private_versioned_and_owner_enforced(template: Template) -> None:
    buckets = resources_of(template, "AWS::S3::Bucket")
    assert set(buckets) == {*BUCKETS, "LogsBucket"}
    for bucket in buckets.values():
        has = bucket["Properties"]
        assert has["VersioningConfiguration"] == {"Status": "Enabled"}
        assert set(has["PublicAccessBlockConfiguration"].values()) == {True}
        assert has["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        assert "AccessControl" not in has


def test_every_store_but_the_logs_is_under_the_tenants_key_with_one_data_key_a_bucket(
    template: Template,
) -> None:
    for name, key in BUCKETS.items():
        (rule,) = properties(template, name)["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        assert rule["BucketKeyEnabled"] is True


@pytest.mark.parametrize(
    ("name", "mode", "days"),
    [("pharmacy", "COMPLIANCE", 2192), ("clinic", "GOVERNANCE", 365), ("sandbox", "GOVERNANCE", 1)],
)
def test_the_trail_is_locked_for_its_whole_retention(name: str, mode: str, days: int) -> None:
    bucket = properties(template_for(name), "TrailBucket")
    assert bucket["ObjectLockEnabled"] is True
    retention = bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert retention == {"Mode": mode, "Days": days}
    (bounded, _) = bucket["LifecycleConfiguration"]["Rules"]
    assert bounded["ExpirationInDays"] >= days


def test_labels_are_locked_under_hipaa_for_as_long_as_they_are_kept() -> None:
    bucket = properties(template_for("pharmacy"), "LabelsBucket")
    retention = bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    (bounded, _) = bucket["LifecycleConfiguration"]["Rules"]
    assert retention == {"Mode": "GOVERNANCE", "Days": 400}
    assert bounded["ExpirationInDays"] == 400


def test_tls_before_1_2_is_denied(template: Template) -> None:
    for name in (*BUCKETS, "LogsBucket"):
        refused = [one for one in statements(template, name) if one["Effect"] == "Deny"]
        conditions = [one.get("Condition") for one in refused]
        assert {"Bool": {"aws:SecureTransport": "false"}} in conditions
        assert {"NumericLessThan": {"s3:TlsVersion": 1.2}} in conditions


def test_raw_capture_expires_within_days_without_the_redactor(template: Template) -> None:
    rules = properties(template, "QuarantineBucket")["LifecycleConfiguration"]["Rules"]
    bounded = next(rule for rule in rules if rule["Id"] == "Bounded")
    assert bounded["ExpirationInDays"] == 1
    assert bounded["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}


NOT_COPIED = {
    "EventsTable": "what expires, and keys of erasure",
    "LogsBucket": "no document",
    "TrailBucket": "locked for as long as it is kept",
    "ModelsBucket": "published again",
    "LabelsBucket": "feedback, by which nobody answers",
    "FeedbackBucket": "feedback, by which nobody answers",
    "InboxBucket": "what arrives is in the bucket of documents",
    "QuarantineBucket": "copies of calls",
    "CaptureBucket": "copies of calls",
}
"""Stores without recovery points: why no loss of theirs is one of an original or of a record."""


def test_under_hipaa_a_plan_has_each_store_that_nothing_can_make_again(hipaa: Template) -> None:
    stores = {*resources_of(hipaa, "AWS::S3::Bucket"), *resources_of(hipaa, "AWS::DynamoDB::Table")}
    selections = resources_of(hipaa, "AWS::Backup::BackupSelection").values()
    selected = [
        arn["Fn::GetAtt"][0]
        for each in selections
        for arn in each["Properties"]["BackupSelection"]["Resources"]
    ]
    assert {*selected, *NOT_COPIED} == stores
    assert sorted(selected) == sorted(stores - NOT_COPIED.keys())


def test_a_point_ends_on_the_day_of_the_receipt_and_nobody_ends_or_copies_it_before(hipaa: Template) -> None:
    (vault,) = resources_of(hipaa, "AWS::Backup::BackupVault").values()
    days = RETENTION["hipaa"].backup
    lock = vault["Properties"]["LockConfiguration"]
    assert lock == {"MinRetentionDays": days, "MaxRetentionDays": days}  # no ChangeableForDays: governance
    (statement,) = vault["Properties"]["AccessPolicy"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", {"AWS": "*"})
    assert {"backup:DeleteRecoveryPoint", "backup:StartCopyJob"} <= {*statement["Action"]}
    assert "Condition" not in statement
    assert vault["Properties"]["EncryptionKeyArn"] == KEYS.data_key_arn
    assert vault["DeletionPolicy"] == "RetainExceptOnCreate"
    for plan in resources_of(hipaa, "AWS::Backup::BackupPlan").values():
        (rule,) = plan["Properties"]["BackupPlan"]["BackupPlanRule"]
        assert rule["Lifecycle"] == {"DeleteAfterDays": days}
        assert "EnableContinuousBackup" not in rule  # such a point has no end


ELSEWHERE = "arn:aws:backup:eu-west-1:666677778888:backup-vault:far"


def with_copies(to: str, *, tenant: str = "pharmacy") -> DeployedTenant:
    place = deployed(tenant).place.model_dump(mode="json") | {"recovery_copies": to}
    return with_sections(deployed(tenant), deployment=place)


@pytest.fixture(scope="module")
def copied() -> Template:
    return template_of(stack_with(DataStack, with_copies(ELSEWHERE)))


def test_each_point_is_copied_to_the_vault_that_the_company_names_and_ends_with_its_copy(
    copied: Template,
) -> None:
    for plan in resources_of(copied, "AWS::Backup::BackupPlan").values():
        (rule,) = plan["Properties"]["BackupPlan"]["BackupPlanRule"]
        (copy,) = rule["CopyActions"]
        assert copy == {"DestinationBackupVaultArn": ELSEWHERE, "Lifecycle": rule["Lifecycle"]}


def test_the_role_of_aws_backup_alone_copies_points_and_to_that_vault_alone(copied: Template) -> None:
    (vault,) = resources_of(copied, "AWS::Backup::BackupVault").values()
    (nobody, others) = vault["Properties"]["AccessPolicy"]["Statement"]
    assert "Condition" not in nobody
    assert "backup:DeleteRecoveryPoint" in nobody["Action"]
    (role,) = (name for name in resources_of(copied, "AWS::IAM::Role") if name.startswith("RecoveryRole"))
    assert others["Action"] == "backup:StartCopyJob"
    unless = {"ArnNotEquals": {"aws:PrincipalArn": {"Fn::GetAtt": [role, "Arn"]}}}
    assert others["Condition"] == unless
    (policy,) = (name for name in resources_of(copied, "AWS::IAM::ManagedPolicy") if "RecoveryCopies" in name)
    statements = statements_of(copied, policy)
    assert allowed_on(statements, "backup:CopyIntoBackupVault") == {ELSEWHERE}
    assert allowed_on(statements, "backup:CopyFromBackupVault") == {"${RecoveryVault.BackupVaultArn}"}
    selections = resources_of(copied, "AWS::Backup::BackupSelection").values()
    assert all(policy in each["DependsOn"] for each in selections)


def test_aws_backup_may_do_what_its_own_managed_policies_let_it_do_to_such_stores(copied: Template) -> None:
    """Of the policies that AWS attaches to its default role (moto has a copy of them all): the rights on
    buckets, tables, their events and vaults."""
    documents = json.loads(aws_managed_policies_data)
    named = ("AWSBackupServiceRolePolicyForBackup", "AWSBackupServiceRolePolicyForS3Backup")
    wanted = {
        action
        for name in named
        for statement in documents[name]["Document"]["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        if action.startswith(("backup:", "cloudwatch:", "dynamodb:", "events:", "s3:"))
    }
    policies = resources_of(copied, "AWS::IAM::ManagedPolicy")
    held = {
        action
        for name in policies
        if name.startswith("Recovery")
        for statement in statements_of(copied, name)
        for action in statement["Action"]
    }
    assert {"s3:PutInventoryConfiguration", "backup:CopyIntoBackupVault"} <= wanted
    assert wanted - held == set()


KEPT = (
    "AWS::Backup::BackupVault",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::DynamoDB::Table",
    "AWS::OpenSearchService::Domain",
    "AWS::Logs::LogGroup",
)


def test_what_outlives_the_stack_keeps_its_policy(hipaa: Template) -> None:
    for kind in KEPT:
        for name, resource in resources_of(hipaa, kind).items():
            assert resource["DeletionPolicy"] in ("Retain", "RetainExceptOnCreate"), name
            assert resource["UpdateReplacePolicy"] == "Retain", name


@pytest.mark.parametrize(
    "wrong", ["arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:role/*", "arn:aws:iam::*:role/ci"]
)
def test_a_publisher_is_one_role_and_never_a_whole_account(wrong: str) -> None:
    place = deployed("pharmacy").place.model_dump(mode="json") | {"artifact_publishers": [wrong]}
    with pytest.raises(ValueError, match="artifact_publishers"):
        with_sections(deployed("pharmacy"), deployment=place)


def test_a_compile_job_runs_closed_bounded_and_in_the_tenants_network(hipaa: Template) -> None:
    """What every request of ``models compile`` shares."""
    parts = hipaa["Outputs"]["CompileJob"]["Value"]["Fn::Join"][1]
    text = "".join(part if isinstance(part, str) else "value" for part in parts)
    request = json.loads(text)

    assert request["EnableNetworkIsolation"] is True
    assert request["VpcConfig"] == {
        "Subnets": list(NETWORK.subnet_ids),
        "SecurityGroupIds": [NETWORK.security_group_ids[Workload.JOBS]],
    }
    assert request["OutputDataConfig"] == {
        "S3OutputPath": "s3://value/compiled/",
        "KmsKeyId": KEYS.models_key_arn,
        "CompressionType": "NONE",
    }
    # Trainium's disks are local: SageMaker takes no key for them
    assert request["ResourceConfig"] == {"InstanceCount": 1, "VolumeSizeInGB": 200}
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 6 * 3600}


def test_tables_match_the_service_s_definitions(template: Template) -> None:
    for definition in TABLES:
        table = properties(template, f"{definition.role.capitalize()}Table")
        recovery = table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
        assert recovery is definition.recoverable
        assert table.get("TimeToLiveSpecification", {}).get("AttributeName") == definition.expiry_attribute
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["SSESpecification"] == {
            "KMSMasterKeyId": KEYS.data_key_arn,
            "SSEEnabled": True,
            "SSEType": "KMS",
        }
        indexes = [index["IndexName"] for index in table.get("GlobalSecondaryIndexes", [])]
        assert indexes == [index.name for index in definition.indexes]


def test_the_domain_requires_encryption_and_has_access_control(template: Template) -> None:
    domain = properties(template, "Search")
    assert domain["EncryptionAtRestOptions"] == {"Enabled": True, "KmsKeyId": KEYS.data_key_arn}
    assert domain["NodeToNodeEncryptionOptions"] == {"Enabled": True}
    assert domain["DomainEndpointOptions"] == {
        "EnforceHTTPS": True,
        "TLSSecurityPolicy": "Policy-Min-TLS-1-2-PFS-2023-10",
    }
    security = domain["AdvancedSecurityOptions"]
    assert security["Enabled"] is True
    assert security["InternalUserDatabaseEnabled"] is False
    master = security["MasterUserOptions"]["MasterUserARN"]
    assert template["Resources"][master["Fn::GetAtt"][0]]["Type"] == "AWS::IAM::Role"


def test_the_domain_s_policy_allows_only_its_master_role(template: Template) -> None:
    domain = properties(template, "Search")
    (statement,) = domain["AccessPolicies"]["Statement"]
    master = domain["AdvancedSecurityOptions"]["MasterUserOptions"]["MasterUserARN"]
    assert statement["Principal"] == {"AWS": "arn:aws:iam::111122223333:root"}
    assert statement["Condition"] == {"ArnEquals": {"aws:PrincipalArn": master}}


@pytest.mark.parametrize(
    ("tenant", "sections", "says"),
    [
        ("pharmacy", {"search": {"data_nodes": 4}}, "does not divide over 3 zones"),
        ("pharmacy", {"search": {"data_instance": "t3.medium.search"}}, "takes no t3"),
        ("clinic", {"search": {"data_nodes": 3}, "index": {"replicas": 3}}, "need 4 data nodes"),
        ("sandbox", {"index": {"replicas": 1}}, "need 2 data nodes"),
    ],
)
def test_an_invalid_domain_is_refused_at_synth(tenant: str, sections: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        built(with_sections(deployed(tenant), **sections))


def test_declared_readers_read_no_raw_capture_and_break_glass_does() -> None:
    reader, glass = (f"arn:aws:iam::111122223333:role/{name}" for name in ("auditor", "break-glass"))
    tenant = deployed("pharmacy")
    place = json.loads(tenant.place.model_dump_json()) | {"break_glass": [glass]}
    declared = {"declared_principals": [reader]}
    template = template_of(built(with_sections(tenant, deployment=place, observability=declared)))

    def admitted(bucket: str, sid: str) -> str:
        (policy,) = [
            body["Properties"]["PolicyDocument"]
            for body in resources_of(template, "AWS::S3::BucketPolicy").values()
            if body["Properties"]["Bucket"] == {"Ref": bucket}
        ]
        (statement,) = [one for one in policy["Statement"] if one.get("Sid") == sid]
        return json.dumps(statement["Condition"])

    raw = admitted("QuarantineBucket", "OnlyRedactorReads")
    assert glass in raw
    assert reader not in raw
    assert reader in admitted("LabelsBucket", "OnlyTheseRead")
