"""The stand-in of DynamoDB keeps what adapters write and refuses what DynamoDB refuses."""

from __future__ import annotations

import pytest

from tools.load.dynamodb import ExpressionError, RefusedError, Tables

INSERT = "INSERT INTO \"records\" VALUE {'pk': ?, 'sk': ?, 'body': ?}"


def statement(pk: str, sk: str, body: str = "x") -> dict[str, object]:
    return {"Statement": INSERT, "Parameters": [{"S": pk}, {"S": sk}, {"S": body}]}


def typed(**attributes: str) -> dict[str, dict[str, str]]:
    return {name: {"S": value} for name, value in attributes.items()}


def filled() -> Tables:
    tables = Tables()
    for sort in ("a", "batch#1", "batch#2", "head"):
        tables.apply("PutItem", {"TableName": "records", "Item": typed(pk="log#1", sk=sort)})
    return tables


def query(tables: Tables, condition: str, **values: str) -> list[str]:
    request = {
        "TableName": "records",
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": {f":{name}": {"S": value} for name, value in values.items()},
    }
    return [item["sk"]["S"] for item in tables.apply("Query", request)["Items"]]


def test_an_insert_where_an_item_is_fails_alone():
    tables = Tables()
    tables.apply("BatchExecuteStatement", {"Statements": [statement("1", "a")]})
    found = tables.apply(
        "BatchExecuteStatement", {"Statements": [statement("1", "a", "y"), statement("2", "a")]}
    )
    assert [item.get("Error", {}).get("Code") for item in found["Responses"]] == ["DuplicateItem", None]
    kept = tables.apply("GetItem", {"TableName": "records", "Key": typed(pk="1", sk="a")})
    assert kept["Item"]["body"] == {"S": "x"}
    assert tables.tables["records"].count == 2


def test_a_query_gives_a_range_in_order():
    tables = filled()
    assert query(
        tables, "pk = :pk AND sk BETWEEN :low AND :high", pk="log#1", low="batch#2", high="head"
    ) == [
        "batch#2",
        "head",
    ]
    assert query(tables, "pk = :pk AND begins_with(sk, :prefix)", pk="log#1", prefix="batch#") == [
        "batch#1",
        "batch#2",
    ]
    assert query(tables, "pk = :pk", pk="log#2") == []


def test_pages_follow_each_other():
    tables, seen = filled(), []
    request = {
        "TableName": "records",
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "log#1"}},
        "Limit": 3,
        "ScanIndexForward": False,
    }
    while True:
        page = tables.apply("Query", request)
        seen += [item["sk"]["S"] for item in page["Items"]]
        if "LastEvaluatedKey" not in page:
            break
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    assert seen == ["head", "batch#2", "batch#1", "a"]


def test_an_update_counts_and_sets():
    tables = Tables()
    request = {
        "TableName": "events",
        "Key": typed(pk="log#1", sk="signals"),
        "UpdateExpression": "ADD readers :one SET expires_at = :then",
        "ExpressionAttributeValues": {":one": {"N": "1"}, ":then": {"N": "9"}},
    }
    tables.apply("UpdateItem", request)
    tables.apply("UpdateItem", request)
    kept = tables.apply("GetItem", {"TableName": "events", "Key": request["Key"]})["Item"]
    assert (kept["readers"], kept["expires_at"]) == ({"N": "2"}, {"N": "9"})


def test_a_condition_that_does_not_hold_refuses():
    tables = filled()
    request = {
        "TableName": "records",
        "Item": typed(pk="log#1", sk="head"),
        "ConditionExpression": "attribute_not_exists(pk) OR (owner = :me AND NOT attribute_exists(ended))",
        "ExpressionAttributeValues": {":me": {"S": "me"}},
    }
    with pytest.raises(RefusedError, match="ConditionalCheckFailedException"):
        tables.apply("PutItem", request)
    tables.apply("PutItem", request | {"Item": typed(pk="log#3", sk="head", owner="me")})
    tables.apply("PutItem", request | {"Item": typed(pk="log#3", sk="head", owner="you")})
    assert tables.tables["records"].count == 5


def test_a_batch_of_keys_gives_those_that_are_there():
    keys = [typed(pk="log#1", sk="head"), typed(pk="log#9", sk="head")]
    found = filled().apply("BatchGetItem", {"RequestItems": {"records": {"Keys": keys}}})
    assert found["Responses"]["records"] == [typed(pk="log#1", sk="head")]


def test_what_it_does_not_understand_is_an_error():
    with pytest.raises(ExpressionError):
        query(filled(), "size(pk) = :pk", pk="log#1")
    with pytest.raises(RefusedError, match="UnknownOperation"):
        Tables().apply("ImportTable", {})


def test_a_transaction_writes_all_or_nothing():
    tables = filled()

    def transaction(*sorts: str, token: str) -> dict[str, object]:
        condition = {"TableName": "records", "ConditionExpression": "attribute_not_exists(pk)"}
        puts = [{"Put": condition | {"Item": typed(pk="log#1", sk=sort)}} for sort in sorts]
        return {"TransactItems": puts, "ClientRequestToken": token}

    with pytest.raises(RefusedError, match="TransactionCanceled") as refused:
        tables.apply("TransactWriteItems", transaction("new", "head", token="1"))
    codes = [reason["Code"] for reason in refused.value.fields["CancellationReasons"]]
    assert codes == ["None", "ConditionalCheckFailed"]
    assert tables.tables["records"].count == 4
    for _ in range(2):  # a repetition after a lost answer
        tables.apply("TransactWriteItems", transaction("new", "newer", token="2"))
    assert tables.tables["records"].count == 6
