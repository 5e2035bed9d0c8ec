"""The policy of who rehearses a restore: each call of the command, and no write to a live table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.breaking.restored_site import ACCOUNT, KEY, sample, site
from tests.stacks.delivery_roles import OPERATOR, policies_of, refused
from tests.stacks.rights.model import Store
from tests.stage.aws_calls import Call, read_calls
from tests.stage.aws_server import EMULATED, aws_server
from tests.unit.documents.scene import scripted_endpoint

TENANT = "pharmacy"


def refused_to_operator(calls: list[Call]) -> list[str]:
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*"}
    policy = {"Version": "2012-10-17", "Statement": [{**statement, "Resource": "*"}]}
    key = Store(
        tenant=TENANT, stack="Keys", logical_id="DataKey", kind="AWS::KMS::Key", arn=KEY, policy=policy
    )
    policies = policies_of(OPERATOR, "Rehearses", tenant=TENANT, account=ACCOUNT)
    return refused(calls, policies=policies, tenant=TENANT, account=ACCOUNT, key=key)


async def test_it_allows_each_call(tmp_path: Path) -> None:
    with aws_server(tmp_path / "calls") as url, scripted_endpoint() as endpoint:
        async with site(tmp_path, aws_url=url, endpoint=endpoint, name=TENANT) as tenant:
            await tenant.know(sample(20))
            await tenant.answer(20)
            tenant.keep_moment()
            await tenant.know([sample(1)[0].model_copy(update={"content": "Replaced since."})])
            status, report, lines = await tenant.rehearse()
            assert status == 0, (report, lines)
    embedding = {"EndpointName": "pharmacy-embedding"}
    asked = Call(key_id=EMULATED, service="sagemaker", operation="InvokeEndpoint", given=embedding)
    calls = [*read_calls(tmp_path / "calls"), asked]
    made = {call.operation for call in calls}
    assert {"RestoreTableToPointInTime", "TagResource", "DeleteTable", "Scan", "GetObject"} <= made
    assert refused_to_operator(calls) == []


@pytest.mark.parametrize(
    "operation", ["DeleteTable", "PutItem", "UpdateItem", "BatchWriteItem", "DeleteItem"]
)
async def test_it_writes_and_deletes_copies_alone(operation: str) -> None:
    table = f"assistant-{TENANT}-Data-RecordsTable1"
    row = {"pk": {"S": "answer#1"}, "sk": {"S": "answer"}}
    outcomes: list[int] = []
    for name in (f"{table}-rehearsal-20261127T190000Z", table):
        given = {"TableName": name, "Key": row, "Item": row}
        call = Call(key_id=EMULATED, service="dynamodb", operation=operation, given=given)
        outcomes.append(len(refused_to_operator([call])))
    assert outcomes == [0, 1]
