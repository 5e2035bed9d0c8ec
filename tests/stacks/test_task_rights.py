"""What a task of the orchestrator may do: each action, on what it is named for, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from assistant.tenant.deployed_names import DESK, EVENTS, RECORDS, STATES, TableDefinition
from tests.stacks.orchestrator_template import orchestrator_of
from tests.stacks.policies import allowed_on, statements_of
from tests.stacks.values import DATA, deployed, resources_of

Statements = list[dict[str, Any]]
REGION = "us-east-1"
ACCOUNT = "111122223333"


def policy(template: Mapping[str, Any], role: str) -> Statements:
    (name,) = [
        name for name in resources_of(template, "AWS::IAM::Policy") if name.startswith(f"Task{role}Default")
    ]
    return statements_of(template, name)


@pytest.fixture(scope="module")
def template() -> Mapping[str, Any]:
    return orchestrator_of(deployed("pharmacy"))


@pytest.fixture(scope="module")
def rights(template: Mapping[str, Any]) -> Statements:
    return policy(template, "Role")


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def actions(statements: Statements, service: str) -> set[str]:
    return {action for each in statements for action in each["Action"] if action.startswith(f"{service}:")}


def test_the_index_may_be_searched_and_not_written(rights: Statements) -> None:
    alias, versions = f"{DATA.domain_arn}/pharmacy-passages", f"{DATA.domain_arn}/*-passages-v*"
    assert actions(rights, "es") == {"es:ESHttpPost", "es:ESHttpGet"}
    assert allowed_on(rights, "es:ESHttpPost") == {f"{alias}/_search", f"{versions}/_search"}
    assert allowed_on(rights, "es:ESHttpGet") == {f"{alias}/_mapping", f"{versions}/_mapping"}


@pytest.mark.parametrize(
    ("definition", "table"),
    [
        (RECORDS, DATA.records_table),
        (EVENTS, DATA.events_table),
        (STATES, DATA.states_table),
        (DESK, DATA.desk_table),
    ],
    ids=["records", "events", "states", "desk"],
)
def test_a_table_permits_what_its_adapter_needs(
    rights: Statements, definition: TableDefinition, table: str
) -> None:
    name = arn("dynamodb", f"table/{table}")
    granted = {action for action in actions(rights, "dynamodb") if name in allowed_on(rights, action)}
    assert granted == set(definition.service_actions)


@pytest.mark.parametrize("table", [DATA.records_table, DATA.desk_table])
def test_records_and_the_desk_may_be_neither_changed_nor_deleted(rights: Statements, table: str) -> None:
    name = arn("dynamodb", f"table/{table}")
    for action in ("dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem"):
        assert name not in allowed_on(rights, action)
