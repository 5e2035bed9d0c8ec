"""What must hold of the tenant's stores. Who passes their policies: ``tests.stacks.rights``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from moto.iam.aws_managed_policies import aws_managed_policies_data

from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployed_names import TABLES
from assistant.tenant.deployment import RETENTION
from stacks.data import DataStack
from stacks.outputs import Workload
from stacks.tenant import DeployedTenant
from tests.stacks.values import (
    KEYS,
    NETWORK,
    allowed_on,
    deployed,
    resources_of,
    stack_with,
    statements_of,
    template_of,
    with_sections,
)

Template = Mapping[str, Any]


def built(tenant: DeployedTenant) -> DataStack:
    return stack_with(DataStack, tenant)


@pytest.fixture(scope="module")
def hipaa() -> Template:
    return template_of(built(deployed("pharmacy")))


def properties(template: Template, logical_id: str) -> Mapping[str, Any]:
    return template["Resources"][logical_id]["Properties"]


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


@pytest.fixture(scope="module")
def copied() -> Template:
    return template_of(built(deployed("company")))


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
    assert allowed_on(statements, "backup:CopyIntoBackupVault") == {deployed("company").place.recovery_copies}
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


def test_tables_match_the_service_s_definitions(hipaa: Template) -> None:
    for definition in TABLES:
        table = properties(hipaa, f"{definition.role.capitalize()}Table")
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
