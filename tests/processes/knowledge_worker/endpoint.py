"""An embedding endpoint on a real socket that a test controls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson

from tests.stage.servers import Exchange, serving
from tests.unit.documents.scene import vector_of


@dataclass
class ScriptedEndpoint:
    """Answers as the SageMaker Runtime does, with vectors by the text's hash."""

    url: str = ""
    asked: threading.Event = field(default_factory=threading.Event)
    before: Callable[[list[str]], None] | None = None
    """Called with the texts of each request before the answer."""

    async def answer(self, exchange: Exchange) -> None:
        texts = orjson.loads(exchange.body)["inputs"]
        self.asked.set()
        if self.before is not None:
            self.before(texts)
        await exchange.respond(200, orjson.dumps([vector_of(text) for text in texts]))


@contextmanager
def scripted_endpoint() -> Generator[ScriptedEndpoint]:
    endpoint = ScriptedEndpoint()
    with serving(endpoint.answer) as url:
        endpoint.url = url.removesuffix("/v1")
        yield endpoint
