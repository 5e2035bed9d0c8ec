"""How many calls to DynamoDB and S3 an answer makes, by operation and table, on the emulator.

tests/node/aws/test_calls_of_a_question.py has those to models and to the index, and which wait for which.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.documents.parsing import parse_document
from assistant.domain.documents import Document
from assistant.process.aws import open_client
from assistant.stores.documents import StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from tests.emulated_aws import documents_in, make_resources
from tests.fakes.aws_server import REGION
from tests.fakes.faulty_proxy import FaultyProxy, Request, faulty_proxy
from tests.fakes.running_service import (
    RunningService,
    Scene,
    events_of,
    live_status,
    published_keys,
    service_on,
    service_settings,
)
from tests.fakes.sagemaker_socket import sagemaker_socket
from tests.fakes.tokens import EC_KEY

BY_TIME = ("GetItem desk", "Query states", "BatchGetItem events")
"""Approved answers, what still loads and cancellations are looked at by time."""
_MOST_ASKED = 10


def call_of(request: Request) -> str:
    """Return ``PutItem records``, or ``GET documents`` of a bucket."""
    operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
    if not operation:
        return f"{request.method} {request.path.split('/')[1].rpartition('-')[2]}"
    body = orjson.loads(request.body)
    return f"{operation} {'+'.join(sorted({name.rpartition('-')[2] for name in tables_in(body)}))}"


def tables_in(body: Any) -> Iterable[str]:
    """Yield the names of all tables that a request names."""
    if isinstance(body, dict):
        for key, value in body.items():
            if key == "TableName":
                yield value
            elif key == "RequestItems":
                yield from value
            else:
                yield from tables_in(value)
    elif isinstance(body, list):
        for each in body:
            yield from tables_in(each)


@dataclass
class Counted:
    service: RunningService
    proxy: FaultyProxy
    tenant: str

    async def calls(self, **body: Any) -> tuple[str, Counter[str]]:
        """Ask for a stream that can be resumed; return its conversation and the calls until its end."""
        await self.service.idle()
        self.proxy.requests.clear()
        response = await self.service.ask(
            tenant=self.tenant, accept="text/event-stream", body=body | {"resume_window_s": 5}
        )
        events = dict(events_of(response.text))
        assert events["done"]["finish_reason"] == "stop", response.text
        calls = [call for call in map(call_of, self.proxy.requests) if call not in BY_TIME]
        return events["started"]["conversation_id"], Counter(calls)

    async def makes(self, expected: Mapping[str, int], **body: Any) -> str:
        """Ask until an answer makes these calls alone, and return its conversation. The first one reads what
        is read once, and what the service does by itself after it began adds to some."""
        calls = Counter[str]()
        for _ in range(_MOST_ASKED):
            conversation, calls = await self.calls(**body)
            if calls == expected:
                return conversation
        pytest.fail(f"the last answer made {calls}, and not {expected}")


@pytest.fixture
async def counted(aws_server_url: str, tmp_path: Path) -> AsyncIterator[Counted]:
    tenant = f"calls-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        aws = await make_resources(aws_server_url, [tenant])
        proxy = await stack.enter_async_context(faulty_proxy(aws_server_url))
        sagemaker = await stack.enter_async_context(sagemaker_socket())
        sagemaker.texts, sagemaker.pace_s = ("The wait is ", "two days [1.1]."), 0.5
        jwks_url = await stack.enter_async_context(published_keys([EC_KEY]))
        scene = Scene(tenants=(tenant,))
        settings = service_settings(tmp_path, scene, sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        on_aws = aws.settings() | aws.answer_settings() | {"aws_endpoint_url": proxy.url}
        service = await stack.enter_async_context(
            service_on(settings.model_copy(update=on_aws), scene, sagemaker)
        )
        document = await service.know("wait", "The wait is two days.", tenant=tenant)
        await keep(document, tenant=tenant, url=aws_server_url)
        yield Counted(service, proxy, tenant)


async def keep(document: Document, *, tenant: str, url: str) -> None:
    """Put a live document where the service on AWS's stores finds it."""
    async with (
        open_client("s3", region=REGION, endpoint_url=url) as s3,
        open_client("dynamodb", region=REGION, endpoint_url=url) as dynamodb,
    ):
        documents = documents_in(s3, bucket=f"{tenant}-documents")
        await documents.put(document)
        await documents.put_parsed(document.document_id, document.content_hash(), parse_document(document))
        states_table = DynamoDbTable(dynamodb, name=f"{tenant}-states")
        states = StoredStates(states_table)
        await states.put_many([live_status(document)])
        await states_table.close()


async def test_an_answer_and_its_follow_up_make_so_many_calls(counted: Counted) -> None:
    begun_and_kept = {"TransactWriteItems records": 2}  # its beginning, its record
    conversation = await counted.makes(begun_and_kept)
    follow_up = {
        "Query records": 1,
        "BatchGetItem records": 1,
        "GetItem states": 1,
        "GET documents": 1,
    }
    await counted.makes(begun_and_kept | follow_up, conversation_id=conversation)
