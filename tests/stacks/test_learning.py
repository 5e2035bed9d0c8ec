"""The roles of learning jobs, and the stores that they may not read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assistant.options.desk.stack import LearningStack
from tests.stacks.policies import allowed_on, statements_of
from tests.stacks.values import deployed, resources_of, stack_with, template_of


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    tenant = deployed("pharmacy")
    return template_of(stack_with(LearningStack, tenant))


def test_no_learning_job_may_read_the_quarantine(template: dict[str, Any]) -> None:
    assert "value-quarantine" not in json.dumps(template)


def test_a_training_job_may_read_no_raw_store(template: dict[str, Any]) -> None:
    read = allowed_on(statements_of(template, "Training"), "s3:GetObject")

    assert {bucket for bucket in read if "value-" in bucket} == {"arn:${AWS::Partition}:s3:::value-models/*"}


def test_a_job_writes_to_one_folder_of_the_training_bucket(template: dict[str, Any]) -> None:
    assert allowed_on(statements_of(template, "Training"), "s3:PutObject") == {
        "arn:${AWS::Partition}:s3:::${TrainingBucket}/checkpoints/*"
    }


def test_keys_are_used_only_through_s3(template: dict[str, Any]) -> None:
    for statement in statements_of(template, "Training"):
        if "kms:Decrypt" in statement["Action"]:
            assert statement["Condition"] == {
                "StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}
            }


def test_only_sagemaker_takes_the_roles_of_jobs(template: dict[str, Any]) -> None:
    for name, role in resources_of(template, "AWS::IAM::Role").items():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        services = {
            "Functions": "lambda",
            "SetsTaskStarting": "states",
            "SetsTaskSchedules": "scheduler",
            "Sets": "ecs-tasks",
        }
        service = next((services[one] for one in services if name.startswith(one)), "sagemaker")
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}, name


def test_training_data_expires(template: dict[str, Any]) -> None:
    (bucket,) = resources_of(template, "AWS::S3::Bucket").values()
    rules = bucket["Properties"]["LifecycleConfiguration"]["Rules"]

    assert [rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule] == [365]
    assert bucket["DeletionPolicy"] == "RetainExceptOnCreate"
