"""One generated stream: through the model server, against the runtime's own loop, in turns in the same run.

The loop has the same weights and parameters in a process of its own, without HTTP. The ratio that is asked
for is the median of the rounds' ratios, over the whole request from sending to the last token, so that what
else the machine does weighs on both. The way through gateway and adapter is shown beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import orjson

from assistant.answering.ports import ChatMessage, GenerationRequest
from assistant.aws.sagemaker import SageMakerGenerator, open_sagemaker_runtime
from assistant.domain.clock import Deadline, SystemClock
from assistant.settings.process import GatewaySettings, ModelServerSettings, inherited_environment
from benchmarks.local_embedding import machine_line

LEAST_RATIO = 0.9
_QUESTION = "List the first 500 prime numbers."
"""The model goes on to the limit."""
_TIMEOUT_S = 120.0
_ANY_KEY = "local"
LOOP, SERVER, PATH = "runtime's own loop", "model server", "gateway and adapter"


@dataclass(frozen=True, slots=True)
class Stream:
    """One measured stream."""

    first_s: float
    total_s: float
    tokens: int

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.total_s


@dataclass(slots=True)
class GenerationRun:
    """The measured streams by way, a stream a round."""

    streams: dict[str, list[Stream]] = field(default_factory=dict[str, list[Stream]])

    def ratio(self, way: str = SERVER) -> float:
        """Return the median over the rounds of a way's speed by the loop's of the same round."""
        pairs = zip(self.streams[way], self.streams[LOOP], strict=True)
        return statistics.median(one.tokens_per_s / loop.tokens_per_s for one, loop in pairs)

    def lines(self) -> list[str]:
        lines = [f"{'one stream':<22}{'tokens/s':>10}{'first token':>14}{'of the loop':>14}"]
        for way, streams in self.streams.items():
            speed = statistics.median(stream.tokens_per_s for stream in streams)
            first_ms = statistics.median(stream.first_s for stream in streams) * 1000
            lines.append(f"{way:<22}{speed:>10.1f}{first_ms:>11.0f} ms{self.ratio(way):>13.1%}")
        return lines


Way = Callable[[], Awaitable[Stream]]


def measure(*, rounds: int, tokens: int) -> GenerationRun:
    """Start what is needed, measure in turns and stop it."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        settings = ModelServerSettings(task="generation", port=0, artifacts_dir=Path(scratch))
        server, ready = stack.enter_context(_child("assistant.model_server", settings.environment()))
        server_url = _url(ready)
        gateway_settings = GatewaySettings(port=0, endpoints={"llm": server_url})
        _, ready = stack.enter_context(_child("assistant.local.gateway", gateway_settings.environment()))
        loop, _ = stack.enter_context(_child("benchmarks.generation_loop", settings.environment()))
        assert server.poll() is None
        return asyncio.run(_measure(loop, server_url, _url(ready), rounds=rounds, tokens=tokens))


async def _measure(
    loop: subprocess.Popen[bytes], server_url: str, gateway_url: str, *, rounds: int, tokens: int
) -> GenerationRun:
    request = {
        "messages": [{"role": "user", "content": _QUESTION}],
        "max_tokens": tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with (
        httpx.AsyncClient(base_url=server_url, timeout=_TIMEOUT_S, trust_env=False) as http,
        open_sagemaker_runtime(
            region="us-east-1", endpoint_url=gateway_url, access_key_id=_ANY_KEY, secret_access_key=_ANY_KEY
        ) as client,
    ):
        generator = SageMakerGenerator(client, endpoint="llm")
        ways: dict[str, Way] = {
            LOOP: lambda: asyncio.to_thread(_by_loop, loop, request),
            SERVER: lambda: _by_server(http, request),
            PATH: lambda: _by_adapter(generator, tokens),
        }
        run = GenerationRun({name: [] for name in ways})
        for number in range(rounds + 1):
            for name, way in ways.items():
                stream = await way()
                if number > 0:  # the first round warms all three; each reads its prompt whole
                    run.streams[name].append(stream)
    return run


def _by_loop(loop: subprocess.Popen[bytes], request: dict[str, Any]) -> Stream:
    assert loop.stdin is not None
    assert loop.stdout is not None
    loop.stdin.write(orjson.dumps(request) + b"\n")
    loop.stdin.flush()
    return Stream(**orjson.loads(loop.stdout.readline()))


async def _by_server(http: httpx.AsyncClient, request: dict[str, Any]) -> Stream:
    began = time.perf_counter()
    first_s, tokens = 0.0, 0
    async with http.stream("POST", "/invocations", json=request) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = orjson.loads(line.removeprefix("data: "))
            if not first_s and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                first_s = time.perf_counter() - began
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    return Stream(first_s, time.perf_counter() - began, tokens)


async def _by_adapter(generator: SageMakerGenerator, tokens: int) -> Stream:
    request = GenerationRequest((ChatMessage("user", _QUESTION),), max_tokens=tokens, temperature=0.0)
    began = time.perf_counter()
    first_s, generated = 0.0, 0
    async with generator.stream(request, deadline=Deadline.after(_TIMEOUT_S, clock=SystemClock())) as stream:
        async for delta in stream:
            first_s = first_s or time.perf_counter() - began
            if delta.usage is not None:
                generated = delta.usage.completion_tokens
    return Stream(first_s, time.perf_counter() - began, generated)


@contextmanager
def _child(
    module: str, environment: Mapping[str, str]
) -> Generator[tuple[subprocess.Popen[bytes], Mapping[str, Any]]]:
    """Run a module until the end of the block; give it with its ready line."""
    child = subprocess.Popen(
        [sys.executable, "-m", module],
        env=inherited_environment() | dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        if not line:
            raise SystemExit(f"{module} did not get ready.")
        yield child, cast("Mapping[str, Any]", orjson.loads(line))
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def _url(ready: Mapping[str, Any]) -> str:
    return f"http://{ready['host']}:{ready['port']}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=160)
    arguments = parser.parse_args()
    print(f"machine  {machine_line()}")
    run = measure(rounds=arguments.rounds, tokens=arguments.tokens)
    print(*run.lines(), sep="\n")
    print(f"asked    at least {LEAST_RATIO:.0%} of the loop through the model server")
    return 0 if run.ratio() >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
