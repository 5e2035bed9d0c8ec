"""The function of the learning stack: how it starts, when it is called, what it may touch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from assistant.options.desk.stack import MOVER, LearningStack
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
)

Template = Mapping[str, Any]


@cache
def built() -> Template:
    return template_of(stack_with(LearningStack, deployed("pharmacy")))


def mover() -> dict[str, Any]:
    (function,) = resources_of(built(), "AWS::Lambda::Function").values()
    return function["Properties"]


def may() -> list[dict[str, Any]]:
    """Return what the mover's role may do by itself."""
    (name,) = (
        name for name in resources_of(built(), "AWS::IAM::Policy") if name.startswith("FunctionsMoveRole")
    )
    return statements_of(built(), name)


def allowing(action: str, *, on: str = "") -> list[dict[str, Any]]:
    return [one for one in may() if action in one["Action"] and any(on in each for each in one["Resource"])]


def test_the_mover_runs_an_image_by_its_digest() -> None:
    function = mover()
    assert function["ImageConfig"]["Command"] == [f"lambdas.{MOVER}.handle"]
    assert "/private-care-assistant/learning@" in json.dumps(function["Code"])
    assert function["PackageType"] == "Image"
    assert not {"Handler", "Runtime", "Layers"} & function.keys()


def test_the_mover_is_in_the_vpc_with_a_group_of_its_own() -> None:
    group, function = NETWORK.security_group_ids[Workload.LEARNING], mover()
    assert function["VpcConfig"] == {"SubnetIds": list(NETWORK.subnet_ids), "SecurityGroupIds": [group]}
    assert function["KmsKeyArn"] == KEYS.data_key_arn


def test_the_mover_is_called_each_minute_and_begins_no_group_after_it() -> None:
    (rule,) = resources_of(built(), "AWS::Events::Rule").values()
    assert rule["Properties"]["ScheduleExpression"] == "rate(1 minute)"
    function = mover()
    assert float(function["Environment"]["Variables"]["ASSISTANT_MOVE_WITHIN_S"]) < 60 < function["Timeout"]


def test_a_failed_call_is_not_repeated() -> None:
    (attempts,) = resources_of(built(), "AWS::Lambda::EventInvokeConfig").values()
    assert attempts["Properties"]["MaximumRetryAttempts"] == 0


def test_the_mover_changes_nothing_of_a_record_but_its_place_in_the_index() -> None:
    (update,) = allowing("dynamodb:UpdateItem", on=DATA.records_table)
    assert update["Condition"] == {
        "ForAllValues:StringEquals": {"dynamodb:Attributes": ["pk", "sk", "listed", "listed_at"]}
    }
    written = {
        action
        for one in may()
        for action in one["Action"]
        if any(DATA.records_table in each for each in one["Resource"])
    }
    assert written == {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:UpdateItem"}


def test_the_mover_touches_only_the_keys_of_erasure_in_the_table_of_events() -> None:
    statements = [
        one for one in may() if any(f"table/{DATA.events_table}" in each for each in one["Resource"])
    ]
    assert statements
    for statement in statements:
        assert statement["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["erasure#*"]}}


def test_the_mover_touches_cases_their_index_and_requests_alone_on_the_desk() -> None:
    (items,) = allowing("dynamodb:PutItem", on=DATA.desk_table)
    assert not any("index" in arn for one in may() for arn in one["Resource"] if DATA.desk_table in arn)
    assert items["Condition"] == {
        "ForAllValues:StringLike": {
            "dynamodb:LeadingKeys": [
                *("item#case#*", "newest#case", "item#case_index#*", "newest#case_index"),
                *("item#act_request#*", "newest#act_request"),
            ]
        }
    }


def test_the_mover_puts_feedback_and_reads_no_label() -> None:
    (put,) = allowing("s3:PutObject")
    assert [each.partition(":::")[2] for each in put["Resource"]] == [
        f"{DATA.labels_bucket}/events/*",
        f"{DATA.texts_bucket}/texts/*",
    ]
    assert not allowing("s3:GetObject", on=DATA.labels_bucket)


def test_the_mover_deletes_nothing_and_has_no_wildcard_action() -> None:
    actions = [action for one in may() for action in one["Action"]]
    assert not [action for action in actions if "Delete" in action or "*" in action]
