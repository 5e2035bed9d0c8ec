"""OpenSearch adapters of one tenant in front of a scripted socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from assistant.domain.clock import Clock
from assistant.domain.documents import IndexedDocument, IndexModel
from assistant.stores.index.opensearch_client import open_opensearch
from assistant.stores.index.opensearch_schema import PassageSchema
from assistant.stores.index.opensearch_search import OpenSearchPassageSearch
from assistant.stores.index.opensearch_writer import OpenSearchPassageIndex
from tests.contracts.samples import EAST, indexed, passage
from tests.fakes.scripted_http import Exchange, Script, ScriptedServer, scripted_http

SCHEMA = PassageSchema(model=IndexModel("model-of-four", 4))
ALIAS = "clinic-passages"


@dataclass
class Adapters:
    index: OpenSearchPassageIndex
    search: OpenSearchPassageSearch
    server: ScriptedServer

    def calls(self) -> list[str]:
        """Return the paths that were asked for, without their parameters."""
        return [exchange.target.partition("?")[0] for exchange in self.server.exchanges]


@asynccontextmanager
async def adapters(script: Script, *, clock: Clock | None = None) -> AsyncGenerator[Adapters]:
    async with (
        scripted_http(script) as server,
        open_opensearch(url=server.url, auth="none") as client,
    ):
        yield Adapters(
            OpenSearchPassageIndex(client, alias=ALIAS, schema=SCHEMA, clock=clock),
            OpenSearchPassageSearch(client, alias=ALIAS, schema=SCHEMA),
            server,
        )


async def respond(exchange: Exchange, answer: Any, *, status: int = 200) -> None:
    await exchange.respond(status, orjson.dumps(answer), Content_Type="application/json; charset=UTF-8")


def refusal(kind: str, *, status: int, reason: str = "") -> dict[str, Any]:
    return {"error": {"root_cause": [{"type": kind}], "type": kind, "reason": reason}, "status": status}


def documents(*names: str) -> list[IndexedDocument]:
    return [indexed((passage(name), EAST)) for name in names]
