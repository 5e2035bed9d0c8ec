"""The tenant's keys. ``tests.stacks.rights`` tests who passes their policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from stacks.keys import KeysStack
from stacks.tenant import DeployedTenant
from tests.stacks.values import deployed, resources_of, stage_for, template_of, with_sections

USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*")
BREAK_GLASS = "arn:aws:iam::111122223333:role/break-glass"


def keys_of(tenant: DeployedTenant) -> Mapping[str, Mapping[str, Any]]:
    return resources_of(template_of(KeysStack(stage_for(tenant), tenant=tenant)), "AWS::KMS::Key")


@pytest.fixture(scope="module")
def keys() -> Mapping[str, Mapping[str, Any]]:
    return keys_of(deployed("pharmacy"))


def statements(keys: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, key in keys.items():
        for statement in key["Properties"]["KeyPolicy"]["Statement"]:
            yield name, statement


def actions_of(statement: Mapping[str, Any]) -> list[str]:
    actions = statement["Action"]
    return [actions] if isinstance(actions, str) else list(actions)


def test_six_keys_outlive_their_stack_and_rotate_unless_they_sign(
    keys: Mapping[str, Mapping[str, Any]],
) -> None:
    assert sorted(keys) == ["CaptureKey", "DataKey", "FeedbackKey", "LogsKey", "ModelsKey", "ReceiptKey"]
    for name, key in keys.items():
        assert key["Properties"].get("EnableKeyRotation", False) is (name != "ReceiptKey")
        assert (key["DeletionPolicy"], key["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_no_statement_lets_an_identity_policy_alone_use_a_key(keys: Mapping[str, Mapping[str, Any]]) -> None:
    uses = [
        (name, statement)
        for name, statement in statements(keys)
        if "AWS" in statement["Principal"] and set(actions_of(statement)) & set(USE)
    ]
    assert {name for name, _ in uses} == set(keys) - {"ReceiptKey"}
    for _, statement in uses:
        condition = statement["Condition"]
        tagged = condition.get("StringEquals", {}).get("aws:PrincipalTag/tenant") == "pharmacy"
        deploying = "ArnEquals" in condition and "kms:ViaService" in condition["StringEquals"]
        of_secrets = condition.get("ArnLike", {}).get("kms:EncryptionContext:SecretARN")
        putting = of_secrets and "kms:ViaService" in condition["StringEquals"]
        assert tagged or deploying or putting


def test_receipts_are_signed_by_the_tenant_s_roles_and_by_nobody_who_administers(
    keys: Mapping[str, Mapping[str, Any]],
) -> None:
    key = keys["ReceiptKey"]["Properties"]
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
    (signs,) = [one for one in key["KeyPolicy"]["Statement"] if {"kms:Sign", "kms:*"} & set(actions_of(one))]
    assert signs["Condition"]["StringEquals"] == {
        "aws:PrincipalTag/tenant": "pharmacy",
        "kms:SigningAlgorithm": "ECDSA_SHA_256",
    }


def test_rules_use_keys_for_queues_and_topics_of_this_account_alone(
    keys: Mapping[str, Mapping[str, Any]],
) -> None:
    of_rules = {
        one["Sid"]: one["Condition"] for _, one in statements(keys) if "events" in str(one["Principal"])
    }
    assert of_rules == {
        "QueueEvents": {
            "ArnLike": {"kms:EncryptionContext:aws:sqs:arn": "arn:aws:sqs:us-east-1:111122223333:*"}
        },
        "PublishEvents": {
            "ArnLike": {"kms:EncryptionContext:aws:sns:topicArn": "arn:aws:sns:us-east-1:111122223333:*"}
        },
    }


def test_grants_are_only_for_services(keys: Mapping[str, Mapping[str, Any]]) -> None:
    grants = [statement for _, statement in statements(keys) if "kms:CreateGrant" in actions_of(statement)]
    assert len(grants) == 2 * (len(keys) - 1)  # nothing is encrypted by the key of receipts
    assert all(grant["Condition"]["Bool"] == {"kms:GrantIsForAWSResource": "true"} for grant in grants)
    assert not any(
        "kms:Create*" in actions_of(statement) or "kms:*" in actions_of(statement)
        for _, statement in statements(keys)
    )


DEPLOYMENT = "arn:aws:iam::111122223333:role/cdk-hnb659fds-cfn-exec-role-111122223333-us-east-1"


def test_workloads_do_not_administer_keys(keys: Mapping[str, Mapping[str, Any]]) -> None:
    for _, statement in statements(keys):
        if "kms:Put*" in actions_of(statement) and statement["Principal"] != {"AWS": DEPLOYMENT}:
            assert statement["Condition"] == {"Null": {"aws:PrincipalTag/tenant": "true"}}


@pytest.mark.parametrize("key", ["CaptureKey", "FeedbackKey"])
def test_captured_calls_and_feedback_are_decrypted_only_through_s3(
    keys: Mapping[str, Mapping[str, Any]], key: str
) -> None:
    (use,) = (
        statement
        for name, statement in statements(keys)
        if name == key and "kms:Decrypt" in actions_of(statement)
    )
    assert use["Condition"]["StringEquals"]["kms:ViaService"] == ["s3.us-east-1.amazonaws.com"]


def test_break_glass_and_declared_readers_may_only_decrypt() -> None:
    tenant = deployed("pharmacy")
    place = tenant.place.model_dump(mode="json") | {"break_glass": [BREAK_GLASS]}
    tenant = with_sections(tenant, deployment=place)
    keys = keys_of(tenant)
    reads = [statement for _, statement in statements(keys) if statement.get("Sid") == "ReadByDeclared"]
    assert len(reads) == len(keys) - 1  # the key of receipts decrypts nothing
    for read in reads:
        assert actions_of(read) == ["kms:Decrypt", "kms:DescribeKey"]
        assert read["Condition"] == {"ArnLike": {"aws:PrincipalArn": [BREAK_GLASS]}}
