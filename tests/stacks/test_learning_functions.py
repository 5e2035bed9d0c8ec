"""The functions of the learning stack: how they start, when they are called, what they may touch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from stacks.learning import MODULES, LearningStack
from stacks.outputs import Workload
from tests.stacks.policies import statements_of
from tests.stacks.values import (
    DATA,
    KEYS,
    NETWORK,
    deployed,
    resources_of,
    stack_with,
    template_of,
    with_sections,
)

Template = Mapping[str, Any]
ROLES = ("Move", "Learn")


@cache
def built(ranking: str = "daily") -> Template:
    tenant = with_sections(deployed("pharmacy"), learning={"ranking": ranking})
    return template_of(stack_with(LearningStack, tenant))


def functions_of(template: Template) -> dict[str, dict[str, Any]]:
    """Return the functions by the module of their handler."""
    found = [body["Properties"] for body in resources_of(template, "AWS::Lambda::Function").values()]
    return {one["ImageConfig"]["Command"][0].split(".")[1]: one for one in found}


def may(role: str) -> list[dict[str, Any]]:
    """Return what a role may do by itself."""
    (name,) = (
        name for name in resources_of(built(), "AWS::IAM::Policy") if name.startswith(f"Functions{role}Role")
    )
    return statements_of(built(), name)


def allowing(role: str, action: str, *, on: str = "") -> list[dict[str, Any]]:
    return [
        one for one in may(role) if action in one["Action"] and any(on in each for each in one["Resource"])
    ]


def test_both_functions_run_one_image_by_its_digest() -> None:
    functions = functions_of(built())
    assert tuple(functions) == MODULES
    images = {json.dumps(function["Code"]) for function in functions.values()}
    assert len(images) == 1
    assert "/private-care-assistant/learning@" in images.pop()
    for function in functions.values():
        assert function["PackageType"] == "Image"
        assert not {"Handler", "Runtime", "Layers"} & function.keys()


def test_both_functions_are_in_the_vpc_with_a_group_of_their_own() -> None:
    group = NETWORK.security_group_ids[Workload.LEARNING]
    for function in functions_of(built()).values():
        assert function["VpcConfig"] == {"SubnetIds": list(NETWORK.subnet_ids), "SecurityGroupIds": [group]}
        assert function["KmsKeyArn"] == KEYS.data_key_arn


def test_the_mover_is_called_each_minute_and_begins_no_group_after_it() -> None:
    rates = [
        rule["Properties"]["ScheduleExpression"]
        for rule in resources_of(built(), "AWS::Events::Rule").values()
    ]
    assert sorted(rates) == ["cron(30 2 * * ? *)", "rate(1 minute)"]
    mover = functions_of(built())["move_feedback"]
    assert float(mover["Environment"]["Variables"]["ASSISTANT_MOVE_WITHIN_S"]) < 60 < mover["Timeout"]


def test_a_failed_call_is_not_repeated() -> None:
    attempts = resources_of(built(), "AWS::Lambda::EventInvokeConfig")
    assert len(attempts) == len(MODULES)
    assert {one["Properties"]["MaximumRetryAttempts"] for one in attempts.values()} == {0}


def test_a_tenant_that_learns_no_ranking_has_the_mover_alone() -> None:
    template = built("off")
    assert list(functions_of(template)) == ["move_feedback"]
    assert not [name for name in resources_of(template, "AWS::IAM::Role") if "Learn" in name]


def test_the_mover_changes_nothing_of_a_record_but_its_place_in_the_index() -> None:
    (update,) = allowing("Move", "dynamodb:UpdateItem", on=DATA.records_table)
    assert update["Condition"] == {
        "ForAllValues:StringEquals": {"dynamodb:Attributes": ["pk", "sk", "listed", "listed_at"]}
    }
    written = {
        action
        for one in may("Move")
        for action in one["Action"]
        if any(DATA.records_table in each for each in one["Resource"])
    }
    assert written == {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:UpdateItem"}


@pytest.mark.parametrize(
    ("role", "table", "partitions"),
    [
        ("Move", DATA.events_table, ["erasure#*"]),
        ("Learn", DATA.events_table, ["erasure#*"]),
        ("Learn", DATA.desk_table, ["item#ranker_release#*", "newest#ranker_release", "version"]),
    ],
)
def test_a_role_touches_only_its_own_partitions_of_a_shared_table(
    role: str, table: str, partitions: list[str]
) -> None:
    statements = [one for one in may(role) if any(f"table/{table}" in each for each in one["Resource"])]
    assert statements
    for statement in statements:
        assert statement["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": partitions}}


def test_the_mover_touches_cases_their_index_and_requests_alone_on_the_desk() -> None:
    (items,) = allowing("Move", "dynamodb:PutItem", on=DATA.desk_table)
    assert not any("index" in arn for one in may("Move") for arn in one["Resource"] if DATA.desk_table in arn)
    assert items["Condition"] == {
        "ForAllValues:StringLike": {
            "dynamodb:LeadingKeys": [
                *("item#case#*", "newest#case", "item#case_index#*", "newest#case_index"),
                *("item#act_request#*", "newest#act_request"),
            ]
        }
    }


def test_the_learner_reads_labels_and_no_text_record_or_document() -> None:
    reached = json.dumps([one["Resource"] for one in may("Learn")])
    for store in (DATA.texts_bucket, DATA.records_table, DATA.documents_bucket, DATA.states_table):
        assert store not in reached
    assert not [one for one in may("Learn") if "s3:PutObject" in one["Action"]]


def test_the_mover_puts_feedback_and_reads_no_label() -> None:
    (put,) = allowing("Move", "s3:PutObject")
    assert [each.partition(":::")[2] for each in put["Resource"]] == [
        f"{DATA.labels_bucket}/events/*",
        f"{DATA.texts_bucket}/texts/*",
    ]
    assert not allowing("Move", "s3:GetObject", on=DATA.labels_bucket)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_deletes_or_has_a_wildcard_action(role: str) -> None:
    actions = [action for one in may(role) for action in one["Action"]]
    assert not [action for action in actions if "Delete" in action or "*" in action]
