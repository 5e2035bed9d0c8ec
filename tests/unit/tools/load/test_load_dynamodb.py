"""The stand-in of DynamoDB keeps items, refuses what DynamoDB refuses, and knows no other call."""

from __future__ import annotations

from typing import Any

import pytest

from tools.load.stand_ins import RefusedError, Tables, UnknownCallError

FREE = {"ConditionExpression": "attribute_not_exists(pk)"}


def typed(**attributes: str) -> dict[str, dict[str, str]]:
    return {name: {"S": value} for name, value in attributes.items()}


def put(sort: str, *, pk: str = "log#1", **attributes: str) -> dict[str, Any]:
    return {"TableName": "records", "Item": typed(pk=pk, sk=sort, **attributes)}


def filled() -> Tables:
    tables = Tables()
    requests = [{"PutRequest": {"Item": put(sort)["Item"]}} for sort in ("head", "batch#2", "a", "batch#1")]
    tables.apply("BatchWriteItem", {"RequestItems": {"records": requests}})
    return tables


def query(tables: Tables, condition: str, **values: str) -> list[str]:
    request = {
        "TableName": "records",
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": {f":{name}": {"S": value} for name, value in values.items()},
    }
    return [item["sk"]["S"] for item in tables.apply("Query", request)["Items"]]


def test_a_put_where_an_item_is_is_refused():
    tables = filled()
    with pytest.raises(RefusedError, match="ConditionalCheckFailedException"):
        tables.apply("PutItem", put("head", body="new") | FREE)
    tables.apply("PutItem", put("tail", body="new") | FREE)
    tables.apply("PutItem", put("a", body="new"))
    for sort, kept in {"head": False, "tail": True, "a": True}.items():
        found = tables.apply("GetItem", {"TableName": "records", "Key": typed(pk="log#1", sk=sort)})
        assert ("body" in found["Item"]) is kept
    assert tables.apply("GetItem", {"TableName": "records", "Key": typed(pk="log#2", sk="a")}) == {}


def test_a_query_gives_a_range_in_order():
    between = "pk = :pk AND sk BETWEEN :first AND :head"
    assert query(filled(), between, pk="log#1", first="batch#2", head="head") == ["batch#2", "head"]
    prefixed = query(filled(), "pk = :pk AND begins_with(sk, :prefix)", pk="log#1", prefix="batch#")
    assert prefixed == ["batch#1", "batch#2"]
    assert query(filled(), "pk = :pk", pk="log#2") == []


def test_a_transaction_writes_all_or_nothing():
    tables = filled()

    def transaction(*sorts: str, token: str) -> dict[str, object]:
        return {"TransactItems": [{"Put": put(sort) | FREE} for sort in sorts], "ClientRequestToken": token}

    with pytest.raises(RefusedError, match="TransactionCanceled") as refused:
        tables.apply("TransactWriteItems", transaction("new", "head", token="1"))
    codes = [reason["Code"] for reason in refused.value.fields["CancellationReasons"]]
    assert codes == ["None", "ConditionalCheckFailed"]
    assert tables.count("records", sort="new") == 0
    for _ in range(2):  # a repetition after a lost answer
        tables.apply("TransactWriteItems", transaction("new", "newer", token="2"))
    assert tables.count("records", sort="new") == 1


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("ImportTable", {}),
        ("PutItem", put("x") | {"ConditionExpression": "owner = :me"}),
        ("PutItem", put("x") | {"ReturnValues": "ALL_OLD"}),
        (
            "BatchWriteItem",
            {"RequestItems": {"records": [{"DeleteRequest": {"Key": typed(pk="1", sk="2")}}]}},
        ),
        ("TransactWriteItems", {"ClientRequestToken": "1", "TransactItems": [{"Delete": {}}]}),
        ("UpdateItem", {"UpdateExpression": "SET cancelled = :value"}),
        (
            "Query",
            {"TableName": "t", "KeyConditionExpression": "size(pk) = :pk", "ExpressionAttributeValues": {}},
        ),
        ("Query", {"TableName": "t", "KeyConditionExpression": "pk = :pk", "Limit": 1}),
    ],
)
def test_what_it_does_not_know_is_an_error(operation: str, call: dict[str, Any]):
    with pytest.raises(UnknownCallError):
        filled().apply(operation, call)
