"""The function without rights, called as its callers do: S3 by moto, the parser in a process of its own."""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import ClientSession, web

from assistant.documents.files import SourceFailure, read_sources
from assistant.documents.parsing_process import MALFORMED, ParsingRequest, frame
from assistant.documents.passages import ParsedParts, Received, SeparateParser
from assistant.domain.errors import DependencyError, ParsingStoppedError
from assistant.process.aws import open_client
from assistant.process.settings import PARSING_PREFIX, SCRATCH
from assistant.service.parser import ParsingFunction
from assistant.stores.documents import LONGEST_CONTENT_BYTES
from tests.processes.documents.requests import page, titles_of
from tests.stage.aws_server import REGION
from tests.stage.emulated_aws import create_documents_bucket
from tests.unit.documents.scene import document

# --- Lambda beside moto -----------------------------------------------------------------------------------
_ROOT = Path(__file__).parents[3]
_RUNTIME = """
import importlib, json, sys
handle = importlib.import_module(sys.argv[1]).handle
for event in sys.stdin:
    try:
        handle(json.loads(event), None)
        answer = "null"
    except Exception as error:
        answer = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
    print(answer, flush=True)
handle.close()
"""
_HOP = ("host", "transfer-encoding", "content-length", "connection")


@dataclass
class LambdaService:
    """``url`` serves Lambda, and whatever else ``aws_url`` does."""

    aws_url: str
    module: str = "lambdas.parse_documents"
    """What the function ``parser`` runs."""
    url: str = ""
    orders: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    kills: bytes = b""
    """Ends a function that is to read this, as Lambda does one that takes more than its memory."""
    unsent: bool = False
    """Whether the function ends without an answer."""
    process: asyncio.subprocess.Process | None = None

    async def invoke(self, request: web.Request) -> web.Response:
        if request.match_info["name"] != "parser":
            error = {"Type": "User", "Message": "Function not found"}
            kind = {"x-amzn-ErrorType": "ResourceNotFoundException"}
            return web.json_response(error, status=404, headers=kind)
        order = await request.read()
        self.orders.append(json.loads(order))
        if self.unsent:
            return web.json_response(None)
        process = self.process = self.process or await self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        if self.kills and self.kills in await self._requests():
            os.killpg(process.pid, signal.SIGKILL)
        process.stdin.write(order + b"\n")
        out = (await process.stdout.readline()).strip()
        if not out:
            await process.wait()
            self.process = None
            out = json.dumps({"errorType": "Runtime.ExitError", "errorMessage": "signal: killed"}).encode()
        failed = {} if out == b"null" else {"X-Amz-Function-Error": "Unhandled"}
        return web.Response(body=out, headers=failed, content_type="application/json")

    async def _started(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _RUNTIME, self.module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=_ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)},
            start_new_session=True,
        )

    async def close(self) -> None:
        if self.process is not None:
            await self.process.communicate(b"")  # its input ends, and its child with it

    async def _requests(self) -> bytes:
        async with ClientSession() as session, session.get(self.orders[-1]["requests"]) as response:
            return await response.read()

    async def forward(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        headers["Host"] = request.host
        async with (
            ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                self.aws_url + request.raw_path,
                data=io.BytesIO(await request.read()),
                headers=headers,
            ) as response,
        ):
            kept = {name: value for name, value in response.headers.items() if name.lower() not in _HOP}
            return web.Response(body=await response.read(), status=response.status, headers=kept)


@asynccontextmanager
async def lambda_service(
    aws_url: str, *, module: str = "lambdas.parse_documents"
) -> AsyncGenerator[LambdaService]:
    service = LambdaService(aws_url, module)
    application = web.Application(client_max_size=1 << 30)
    application.router.add_post("/2015-03-31/functions/{name}/invocations", service.invoke)
    application.router.add_route("*", "/{path:.*}", service.forward)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await service.close()
        await runner.cleanup()


# --- tests ------------------------------------------------------------------------------------------------
RECEIVED_AT = datetime(2026, 11, 27, tzinfo=UTC)


class Called:
    """A caller of the parser, its bucket and the Lambda service."""

    def __init__(self, service: LambdaService, s3: Any, functions: Any, bucket: str) -> None:
        self.service, self.s3, self.functions, self.bucket = service, s3, functions, bucket

    def caller(self, *, name: str = "parser", tokenizer_s3: str | None = None) -> ParsingFunction:
        return ParsingFunction(self.s3, self.functions, name, self.bucket, tokenizer_s3)

    async def run(self, *requests: ParsingRequest, name: str = "parser") -> list[bytes | ParsingStoppedError]:
        caller = self.caller(name=name)
        return await asyncio.to_thread(lambda: list(caller.run(requests)))

    async def left(self) -> list[Any]:
        """Return every version of what was parsed."""
        found = await self.s3.list_object_versions(Bucket=self.bucket, Prefix=PARSING_PREFIX)
        return [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]


@asynccontextmanager
async def deployed(aws_url: str) -> AsyncGenerator[Called]:
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(lambda_service(aws_url))
        s3, functions = [
            await stack.enter_async_context(open_client(name, region=REGION, endpoint_url=service.url))
            for name in ("s3", "lambda")
        ]
        bucket = f"parsed-{uuid.uuid4().hex[:12]}"
        await create_documents_bucket(s3, bucket=bucket)
        yield Called(service, s3, functions, bucket)


@pytest.fixture
async def called(aws_server_url: str) -> AsyncGenerator[Called]:
    async with deployed(aws_server_url) as opened:
        yield opened


async def test_a_file_is_read_by_a_process_without_credentials_and_nothing_is_left(called: Called) -> None:
    assert titles_of(await called.run(page(), page(b"# Second"))) == ["Refill", "Second"]
    assert len(called.service.orders) == 2  # one file a call
    assert await called.left() == []


async def test_a_tokenizer_that_could_not_be_fetched_is_fetched_by_the_next_call(
    called: Called, tokenizer_json: Path, tmp_path: Path
) -> None:
    content = await asyncio.to_thread(tokenizer_json.read_bytes) + b"\n"  # no other test's tokenizer
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_bytes(content)
    (SCRATCH / f"tokenizer-{hashlib.sha256(content).hexdigest()}.json").unlink(missing_ok=True)
    caller = called.caller(tokenizer_s3=f"s3://{called.bucket}/models/t.json")
    parser = SeparateParser(caller, tokenizer_json=tokenizer, max_tokens=64, language_code="en")
    received = [Received(document("first", "# First\n\nOne rule."), "h", RECEIVED_AT)]
    with pytest.raises(DependencyError):
        await asyncio.to_thread(lambda: list(parser.parse(received)))
    await called.s3.put_object(Bucket=called.bucket, Key="models/t.json", Body=content)

    (parts,) = await asyncio.to_thread(lambda: list(parser.parse(received)))

    assert isinstance(parts, ParsedParts)


async def test_an_address_lives_a_minute_and_takes_one_key_of_a_bounded_size(called: Called) -> None:
    before = datetime.now(UTC)
    await called.run(page())
    (order,) = called.service.orders
    read = urlsplit(order["requests"])
    policy = json.loads(base64.b64decode(order["form"]["policy"]))
    folder = read.path.removesuffix("requests").removeprefix(f"/{called.bucket}/")

    assert {name: parse_qs(read.query)[name] for name in ("X-Amz-Expires", "X-Amz-Algorithm")} == {
        "X-Amz-Expires": ["60"],
        "X-Amz-Algorithm": ["AWS4-HMAC-SHA256"],
    }
    assert (datetime.fromisoformat(policy["expiration"]) - before).total_seconds() <= 61
    assert ["content-length-range", 0, LONGEST_CONTENT_BYTES] in policy["conditions"]
    assert {"key": f"{folder}answers"} in policy["conditions"]
    assert {"bucket": called.bucket} in policy["conditions"]
    assert folder.startswith(PARSING_PREFIX)


async def test_a_bomb_costs_its_own_document(called: Called) -> None:
    called.service.kills = b"boom"
    first, bomb, last = titles_of(await called.run(page(), page(b"# boom"), page(b"# Last")))
    assert (first, last) == ("Refill", "Last")
    assert "ended its function" in bomb


async def test_a_line_that_ends_the_whole_function_costs_itself(called: Called, tmp_path: Path) -> None:
    called.service.kills = b"boom"
    line = '{{"id":"{name}","question":"{name}?","answer":"{answer}"}}'
    first = line.format(
        name="a", answer="Yes. " * 60_000
    )  # a block of its own, that tells what the keys mean
    lines = [first, *(line.format(name=name, answer="Yes.") for name in ("boom", "c"))]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    caller = called.caller()

    a, bomb, c = await asyncio.to_thread(lambda: list(read_sources([tmp_path], parsing=caller)))

    assert not isinstance(a, SourceFailure)
    assert not isinstance(c, SourceFailure)
    assert isinstance(bomb, SourceFailure)
    assert "ended its function" in bomb.reason
    assert (bomb.origin, bomb.own_id) == ("a.jsonl:2", "boom")
    assert len(called.service.orders) == 1 + 1 + 2  # the two together, then each alone
    assert await called.left() == []


async def test_a_function_that_does_not_exist_fails_no_document(called: Called) -> None:
    with pytest.raises(DependencyError, match="ResourceNotFound"):
        await called.run(page(), name="other")
    assert await called.left() == []


async def test_an_address_that_does_not_work_fails_no_document(called: Called) -> None:
    """The message comes again: a caller whose rights are gone must not withhold what is live."""
    signed = called.s3.generate_presigned_url

    async def elsewhere(*given: Any, **named: Any) -> str:
        return str(await signed(*given, **named)).replace("/requests?", "/nothing?")

    called.s3.generate_presigned_url = elsewhere
    with pytest.raises(DependencyError, match="DependencyError"):
        await called.run(page())


def item(origin: str) -> bytes:
    content = {"document_id": "a", "title": "A", "content": "# A", "media_type": "text/markdown"}
    return json.dumps([{"document": content, "origin": origin}]).encode()


FORGED = {
    "for another file": frame({}, item("public/a.md")),
    "two for one": frame({}, item("a.md")) * 2,
    "half of one": frame({}, item("a.md"))[:-1],
    "a header that is no object": frame({}, item("a.md")).replace(b"{}", b"[]", 1),
    "no frame": b"{}",
}


@pytest.mark.parametrize("case", [*FORGED, "none of these"])
async def test_a_forged_answer_fails_its_own_file(called: Called, tmp_path: Path, case: str) -> None:
    """What a parser that was taken over writes is put by the address that the caller signed."""
    (tmp_path / "a.md").write_text("# A")
    answer = FORGED.get(case, frame({}, item("a.md")))
    invoke = called.functions.invoke

    async def taken_over(**given: Any) -> Any:
        called.service.unsent = True
        done = await invoke(**given)
        await put(called.service.orders[-1], answer)
        return done

    called.functions.invoke = taken_over
    caller = called.caller()
    (read,) = await asyncio.to_thread(lambda: list(read_sources([tmp_path / "a.md"], parsing=caller)))

    reason = read.reason if isinstance(read, SourceFailure) else ""
    assert reason == ("" if case == "none of these" else MALFORMED)


async def put(order: dict[str, Any], answer: bytes) -> None:
    form = aiohttp.FormData()
    for name, value in order["form"].items():
        form.add_field(name, value)
    form.add_field("file", answer, filename="answers")
    async with aiohttp.ClientSession() as session, session.post(order["answers"], data=form) as response:
        assert response.ok
