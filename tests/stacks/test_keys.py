"""The tenant's keys. ``tests.stacks.rights`` tests who passes their policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from stacks.keys import KeysStack
from stacks.tenant import DeployedTenant
from tests.stacks.values import deployed, resources_of, stage_for, template_of, with_sections

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
