"""Tables of the release before on AWS: moved, given back, and read by both releases at once."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from assistant.cli.aws.deploying import StampedTable, tables_of, upgrade_tables
from assistant.domain.errors import ConfigurationError
from assistant.process.aws import open_client
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.formats import StoreFormat
from assistant.terminal.account import AwsAccount
from assistant.terminal.terminal import GlobalOptions
from tests.fakes.aws_server import REGION

OPTIONS = GlobalOptions(tenants_dir=Path("tenants"), state_dir=Path(".state"), port=None, json=True)


@pytest.fixture
def aws(aws_server_url: str, monkeypatch: pytest.MonkeyPatch) -> AwsAccount:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated")
    return AwsAccount(account="123456789012", region=REGION)


@pytest.fixture
def stack(aws: AwsAccount) -> str:
    """A data stack with the tables, as far as their names and keys go."""
    name = f"assistant-t{uuid4().hex[:12]}-Data"
    key = [("pk", "HASH"), ("sk", "RANGE")]
    properties = {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": part, "AttributeType": "S"} for part, _ in key],
        "KeySchema": [{"AttributeName": part, "KeyType": kind} for part, kind in key],
    }
    table = {"Type": "AWS::DynamoDB::Table", "Properties": properties}
    resources = dict.fromkeys(("RecordsTable", "DeskTable", "StatesTable", "EventsTable"), table)
    aws.call(
        "cloudformation", "create_stack", StackName=name, TemplateBody=json.dumps({"Resources": resources})
    )
    return name


def upgrade(aws: AwsAccount, stack: str, *, plan: bool = False, back: bool = False) -> dict[str, StoreFormat]:
    stores = list(tables_of(aws, data_stack=stack))
    upgrade_tables(stores, options=OPTIONS, command="upgrade", plan=plan, back=back)
    return formats(tables_of(aws, data_stack=stack))


def formats(stores: Any) -> dict[str, StoreFormat]:
    return {store.name: store.found for store in stores}


def table_of(aws: AwsAccount, stack: str, role: str) -> StampedTable:
    (store,) = [store for store in tables_of(aws, data_stack=stack) if store.name == role]
    return store


def test_tables_of_the_release_before_are_moved_and_given_back(aws: AwsAccount, stack: str) -> None:
    first, second = StoreFormat(1), StoreFormat(2)
    unmoved = dict.fromkeys(("records", "desk", "states", "events"), first)
    assert upgrade(aws, stack, plan=True) == unmoved
    moved = {**unmoved, "records": second, "desk": second}
    assert upgrade(aws, stack) == moved
    assert upgrade(aws, stack) == moved
    assert upgrade(aws, stack, back=True) == unmoved


def test_nothing_is_moved_where_a_newer_release_wrote_a_table(aws: AwsAccount, stack: str) -> None:
    table_of(aws, stack, "events").stamp(StoreFormat(4, 3))
    with pytest.raises(ConfigurationError, match="has format 4, and this release reads format 1"):
        upgrade(aws, stack)
    assert table_of(aws, stack, "records").found == StoreFormat(1)


async def test_a_service_refuses_a_table_of_a_newer_release(aws: AwsAccount, stack: str, client: Any) -> None:
    store = table_of(aws, stack, "records")
    table = DynamoDbTable(client, name=store.place)
    await table.refuse_format("records")
    store.stamp(StoreFormat(4, 3))
    with pytest.raises(ConfigurationError, match="has format 4"):
        await table.refuse_format("records")
    await table.close()


@pytest.fixture
async def client(aws_server_url: str) -> AsyncGenerator[Any]:
    async with open_client("dynamodb", region=REGION, endpoint_url=aws_server_url) as opened:
        yield opened
