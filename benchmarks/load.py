"""The service under load, beside a bare relay of the same stream and other frameworks: ``make bench-load``.

The service runs on the embedded stores and models, with the product's own worker.
``benchmarks.stand_in`` streams the answers at a set pace. Every answer must be whole, equal to what the
stand-in wrote, and cite the lines that it cited. The table shows each time beside the relay's; only the
correctness of answers decides the exit status.

A question has a number, from which all parts derive what they need: ``question(7)`` asks about device K7 in
case 7, the stand-in stores what it wrote under 7, and ``Answer.number`` is 7 again.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import signal
import statistics
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import aiohttp
import orjson

from assistant.laptop.tokens import Grant, issue_token, load_or_create_signing_key, public_key_set
from assistant.process.settings import ServiceSettings
from assistant.tenant.added_models import ServedLlm, TenantModels
from assistant.tenant.manifests import WRITER
from benchmarks.indexing import TENANT, BenchLayout, add_and_wait
from benchmarks.stand_in import DEVICES, Pace, document, question
from tools.processes import Started, started
from tools.tables import Figure, machine_line, print_figures

_LIMITS = """
[limits]
streams = 2000
streams_per_agent = 2000
questions_per_minute = 1000000
answer_deadline_s = 100.0
embedding_timeout_s = 90.0
search_timeout_s = 90.0
first_token_timeout_s = 90.0
"""
"""So high that on a busy machine an answer only comes later: no limit refuses it, and no timeout turns it
into quoted sources."""
_CONTEXT_TOKENS = 16_384
_TIMEOUT_S = 120.0
PEERS = Path("build/peers/bin/python")
"""Python of the environment with the other frameworks, which ``make bench-load`` creates."""
FRAMEWORKS = ("Haystack", "LlamaIndex", "LangChain")
_SHORT = Pace(first_s=0.0, token_s=0.0, tokens=20)
_CITATION = re.compile(r" \[\d+\.\d+\]")
"""What the stand-in writes behind a cited line (`` [1.12]``: source 1, line 12), and the service removes."""
_FIRST_TEXT = re.compile(rb'event: token\ndata: \{"text":"[^"]')
"""The first event whose text is not empty."""


class Effort(NamedTuple):
    """How much is measured: each load ``rounds`` times. ``pace`` is that of long answers."""

    pace: Pace = Pace(first_s=0.15, token_s=0.02, tokens=200)
    streams: int = 50
    rounds: int = 3
    short_answers: int = 100
    slow: int = 200
    """Readers who read nothing, beside whom an agent of another tenant asks; then connections that ask
    nothing."""
    idle: int = 500


QUICK = Effort(
    Pace(first_s=0.05, token_s=0.005, tokens=60), streams=20, rounds=1, short_answers=20, slow=20, idle=20
)


@dataclass(slots=True)
class Answer:
    """One answer as the client received it: ``body`` has the raw server-sent events."""

    number: int
    """Number of the question."""
    first_text_s: float = 0.0
    """When the first text arrived, by ``time.monotonic``, which all processes of a machine share; 0:
    never."""
    status: int = 0
    body: bytes = b""

    def fault(self, written: str, *, cites: bool) -> str:
        """Return what is wrong with the answer to a question; empty when it is right to the last character.

        ``written``: what the stand-in wrote (``The clerk … line 12 [1.12].``). ``cites``: whether the answer
        comes from the service, which takes the numbers out of the text and cites those lines; the relay and
        the frameworks pass them on.
        """
        if self.status != 200:
            return f"status {self.status}"
        events = [_event(block) for block in self.body.decode().split("\n\n") if "data: " in block]
        if not events or events[-1][0] != "done":
            return (
                f"ended with {events[-1][0]} {events[-1][1].get('code', '')}".rstrip()
                if events
                else "no event"
            )
        text = "".join(data["text"] for name, data in events if name == "token")
        if text != (_CITATION.sub("", written) if cites else written):
            return "another text"
        are_cited = [self._cites(data, text) for name, data in events if name == "sentence"]
        return "" if all(are_cited) and bool(are_cited) is cites else "another citation"

    def _cites(self, sentence: dict[str, Any], text: str) -> bool:
        """Return whether a sentence cites exactly one line of the document, and repeats that line.

        ``sentence``: offsets into the answer's text, and into the stored document for each cited line:
        ``{"start": 0, "end": 61, "cited": [{"n": 1, "start": 33, "end": 94}]}`` (``n``: the source).
        """
        document_text = document(self.number % DEVICES)
        lines = [document_text[line["start"] : line["end"]] for line in sentence["cited"] if line["n"] == 1]
        return lines == [text[sentence["start"] : sentence["end"]]]


def _event(block: str) -> tuple[str, Any]:
    """Return name and data of one event: ``event: token``, ``data: {"text": "The"}`` → ``("token", {…})``."""
    fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
    return fields.get("event", ""), orjson.loads(fields["data"])


@dataclass(frozen=True, slots=True)
class Load:
    """The answers to a load, and the CPU seconds of the process that answered it."""

    answers: list[Answer]
    sent: dict[str, dict[str, Any]]
    """By the question's number: what the stand-in wrote (``text``), and when its first text left
    (``at_s``)."""
    cpu_s: float
    cites: bool
    """Whether the answers are the service's, with citations (``Answer.fault``)."""

    def faults(self) -> Counter[str]:
        """Count what is wrong with the answers, by fault: ``{"another text": 2}``; empty when all are
        right."""
        nothing_sent = {"text": ""}
        faults = (
            answer.fault(self.sent.get(str(answer.number), nothing_sent)["text"], cites=self.cites)
            for answer in self.answers
        )
        return Counter(fault for fault in faults if fault)

    def late_ms(self) -> float:
        """Return the median time from the stand-in's first text to the client's; NaN when no answer has a
        text."""
        sent_s = {int(number): sent["at_s"] for number, sent in self.sent.items()}
        timed = [answer for answer in self.answers if answer.first_text_s and answer.number in sent_s]
        return 1000 * statistics.median(
            [answer.first_text_s - sent_s[answer.number] for answer in timed] or [math.nan]
        )

    def cpu_ms(self) -> float:
        """Return the mean CPU time of an answer."""
        return 1000 * self.cpu_s / len(self.answers)


@dataclass(slots=True)
class Loads:
    """Sends questions to a target (the service, the relay or a framework), all of which use one stand-in.

    ``asked`` counts the questions so far: each run goes on with the next numbers.
    """

    stand_in: Started
    bearer: str
    asked: int = 0

    def next_number(self) -> int:
        self.asked += 1
        return self.asked - 1

    async def run(
        self, target: Started, pace: Pace, *, streams: int = 1, each: int = 1, cites: bool = True
    ) -> Load:
        """Ask ``each`` questions on each stream, one after the other; no question is asked twice.

        The streams start one after another over the time of one answer, so that they do not end together.
        Setting the pace also clears what the stand-in sent before (``StandIn.set_pace``).
        """
        numbers = range(self.asked, self.asked + streams * each)
        self.asked += len(numbers)
        async with _session(self.bearer) as session:
            async with session.put(f"{self.stand_in.url}/pace", json=asdict(pace)) as response:
                response.raise_for_status()
            cpu_before_s, answer_s = target.cpu_s(), pace.first_s + pace.token_s * pace.tokens

            async def stream(index: int) -> list[Answer]:
                await asyncio.sleep(answer_s * index / streams)
                return [await _ask(session, target.url, number) for number in numbers[index::streams]]

            by_stream = await asyncio.gather(*map(stream, range(streams)))
            cpu_s = target.cpu_s() - cpu_before_s
            async with session.get(f"{self.stand_in.url}/sent") as response:
                sent = await response.json()
        return Load([answer for answers in by_stream for answer in answers], sent, cpu_s, cites)


async def measure_peers(loads: Loads, relay: Started, effort: Effort, *, folder: Path) -> list[Figure]:
    """Measure each framework beside the relay, in one round: our changes do not affect a framework. All embed
    by the scene's model, with our packages."""
    figures = list[Figure]()
    ours = {"packages": sysconfig.get_path("purelib"), "models": str(BenchLayout(folder).models_dir)}
    texts = [document(device) for device in range(DEVICES)]
    for framework in FRAMEWORKS:
        plan = {"framework": framework, "url": f"{loads.stand_in.url}/v1", "documents": texts, **ours}
        with started("benchmarks.peers", plan=plan, python=str(PEERS), timeout_s=_TIMEOUT_S) as peer:
            await loads.run(peer, _SHORT, each=DEVICES, cites=False)  # warm-up
            short = await loads.run(peer, _SHORT, each=effort.short_answers, cites=False)
            bare = await loads.run(relay, _SHORT, each=effort.short_answers, cites=False)
            figures.append(beside(f"{framework}: CPU of such an answer", [(short, bare)], Load.cpu_ms))
    return figures


def _session(bearer: str) -> aiohttp.ClientSession:
    """Return a client with any number of connections, which reads answers as streams."""
    headers = {"authorization": f"Bearer {bearer}", "accept": "text/event-stream"}
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers)


async def _ask(session: aiohttp.ClientSession, url: str, number: int) -> Answer:
    """Ask one question and read its answer to the end."""
    answer, body = Answer(number), bytearray()
    timeout, request = aiohttp.ClientTimeout(total=_TIMEOUT_S), {"question": question(number)}
    async with session.post(f"{url}/v1/answers", json=request, timeout=timeout) as response:
        async for data in response.content.iter_any():
            body += data
            if not answer.first_text_s and _FIRST_TEXT.search(body):
                answer.first_text_s = time.monotonic()
    answer.status, answer.body = response.status, bytes(body)
    return answer


async def measure(loads: Loads, service: Started, relay: Started, effort: Effort) -> list[Figure]:
    """Measure three loads, with the service and the relay in turn: one stream, many streams, short
    answers."""
    await loads.run(service, _SHORT, streams=4, each=DEVICES // 4)  # warm-up: asks about every document once
    plans: dict[str, dict[str, Any]] = {
        "one stream": {"pace": effort.pace, "each": 5},
        f"{effort.streams} streams": {"pace": effort.pace, "streams": effort.streams},
        "short": {"pace": _SHORT, "each": effort.short_answers},
    }
    pairs: dict[str, list[tuple[Load, Load]]] = {name: [] for name in plans}
    for _ in range(effort.rounds):
        for name, plan in plans.items():
            pairs[name].append(
                (await loads.run(service, **plan), await loads.run(relay, **plan, cites=False))
            )
    one, many, short = pairs.values()  # one stream, many streams, short answers
    tokens = effort.pace.tokens
    return [
        right([load for pair in (*one, *many, *short) for load in pair]),
        beside("first text after the stand-in's, one stream, p50", one, Load.late_ms),
        beside(f"first text after the stand-in's, {effort.streams} streams, p50", many, Load.late_ms),
        beside(
            f"CPU of 1,000 tokens, {effort.streams} streams of {tokens}",
            many,
            lambda load: load.cpu_ms() / tokens * 1000,
        ),
        beside(f"CPU of an answer of {_SHORT.tokens} tokens", short, Load.cpu_ms),
        Figure(
            "memory of the service at its peak", "", f"{service.peak_bytes() / 2**20:.0f} MiB", holds=True
        ),
    ]


def measure_steps(folder: Path, effort: Effort) -> list[Figure]:
    """Measure the CPU of each step of a short answer, by ``benchmarks.profiled``."""
    profile, answers = folder / "profile.json", 3 * effort.short_answers
    with scene(folder, profile=profile) as (loads, service, _, _):
        asyncio.run(loads.run(service, _SHORT, each=2 * DEVICES))  # warm-up
        service.popen.send_signal(signal.SIGUSR1)
        load = asyncio.run(loads.run(service, _SHORT, each=answers))
        service.popen.send_signal(signal.SIGUSR1)
    seconds: dict[str, float] = orjson.loads(profile.read_bytes())
    what, apart_ms = (
        f"of {_SHORT.tokens} tokens",
        1000 * (sum(seconds.values()) - seconds["embedding"]) / answers,
    )
    by_step = sorted(seconds.items(), key=lambda step: -step[1])
    return [
        right([load]),
        Figure(
            f"CPU of an answer {what}, embedding apart", "≤ 18 ms", f"{apart_ms:.2f} ms", apart_ms <= 18.0
        ),
        *(Figure(f"… {step}", "", f"{1000 * s / answers:.2f} ms", holds=True) for step, s in by_step),
    ]


def right(loads: Sequence[Load]) -> Figure:
    """Return how many answers were right, and what was wrong with the others."""
    faults = sum((load.faults() for load in loads), Counter[str]())
    count = sum(len(load.answers) for load in loads)
    wrong = "".join(f"; {number} x {fault}" for fault, number in faults.most_common())
    what = "answers whole, as the stand-in wrote them, with its citations"
    return Figure(what, "all", f"{count - faults.total():,} of {count:,}{wrong}", not faults, timed=False)


def beside(what: str, pairs: Sequence[tuple[Load, Load]], measure: Callable[[Load], float]) -> Figure:
    """Return the median of a measure (``Load.late_ms``) for the service and for the relay, and their ratio.

    ``pairs``: of each round, the load of the service (or a framework) and that of the relay.
    """
    service, relay = (statistics.median(measure(pair[side]) for pair in pairs) for side in (0, 1))
    return Figure(
        what, "", f"{service:.2f} ms, {service / relay:.1f} x the relay's {relay:.2f} ms", holds=True
    )


async def measure_other_tenant(loads: Loads, service: Started, bearer: str, effort: Effort) -> Figure:
    """Measure what an agent of another tenant, whose token is ``bearer``, waits for whole answers: alone, and
    beside a crowd of the first tenant."""
    async with _session(loads.bearer) as crowd, _session(bearer) as alone:
        async with alone.put(f"{loads.stand_in.url}/pace", json=asdict(_SHORT)) as response:
            response.raise_for_status()

        async def waited_s(session: aiohttp.ClientSession = alone) -> float:
            began_s = time.monotonic()
            answer = await _ask(session, service.url, loads.next_number())
            if answer.status != 200:
                raise SystemExit(f"An answer beside the crowd had status {answer.status}.")
            return time.monotonic() - began_s

        for _ in range(DEVICES):  # warm-up
            await waited_s()
        alone_s = [await waited_s() for _ in range(5)]
        async with _crowd(loads, service, effort, ask=lambda: waited_s(crowd)):
            beside_s = [await waited_s() for _ in range(20)]
    most_s, median_s = max(beside_s), statistics.median(beside_s)
    return Figure(
        f"an agent waits for a whole answer beside {effort.streams} agents of another tenant, {effort.slow} "
        f"of its readers who read nothing and {effort.idle} idle connections, at most",
        "≤ 1.5 s",
        f"{most_s:.2f} s; {median_s:.2f} s at the median, alone {statistics.median(alone_s):.2f} s",
        most_s <= 1.5,
    )


@asynccontextmanager
async def _crowd(
    loads: Loads, service: Started, effort: Effort, *, ask: Callable[[], Awaitable[float]]
) -> AsyncGenerator[None]:
    """Until the block ends, let agents ask one question after the other, readers read nothing of their
    answers, and connections send no request."""

    async def ask_on() -> None:
        while True:
            await ask()

    async with AsyncExitStack() as stack:
        for at in range(effort.idle + effort.slow):
            _, writer = await asyncio.open_connection(service.ready["host"], service.ready["port"], limit=64)
            stack.callback(writer.close)
            if at < effort.slow:
                writer.write(_request(loads))
        agents = [asyncio.create_task(ask_on()) for _ in range(effort.streams)]
        try:
            yield
        finally:
            for agent in agents:
                agent.cancel()
            await asyncio.gather(*agents, return_exceptions=True)


def _request(loads: Loads) -> bytes:
    """Return a question as its bytes on the wire."""
    body = orjson.dumps({"question": question(loads.next_number())})
    head = (
        "POST /v1/answers HTTP/1.1",
        "host: service",
        f"authorization: Bearer {loads.bearer}",
        "accept: text/event-stream",
        "content-type: application/json",
        f"content-length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode() + body


@contextmanager
def scene(
    folder: Path, *more: str, profile: Path | None = None
) -> Generator[tuple[Loads, Started, Started, list[str]]]:
    """Run stand-in, relay and service until the block ends; yield the loads, the service, the relay, and a
    token of an agent of each further tenant (``more``). ``profile``: where ``benchmarks.profiled`` writes.

    The worker indexes one document for each device first, and has ended when the service starts.
    """
    layout, documents = BenchLayout(folder), folder / "documents"
    documents.mkdir(parents=True)
    for device in range(DEVICES):
        (documents / f"device-{device}.txt").write_text(document(device), encoding="utf-8")
    tenants = (TENANT, *more)
    for tenant in tenants:
        layout.write_tenant(_LIMITS, tenant=tenant)
    with ExitStack() as stack:
        stand_in = stack.enter_context(started("benchmarks.stand_in"))
        relay = stack.enter_context(started("benchmarks.relay", plan=stand_in.url))
        issuer = stack.enter_context(_published_keys(layout.state_dir))
        writer = ServedLlm(
            name="stand-in",
            model="stand-in",
            url=f"{stand_in.url}/v1",
            context_tokens=_CONTEXT_TOKENS,
            answering=WRITER,
        )
        with layout.worker():
            for tenant in tenants:
                statuses, _ = asyncio.run(add_and_wait(layout, documents, tenant=tenant))
                if len(statuses) != DEVICES:
                    raise SystemExit(f"{len(statuses)} of {DEVICES} documents were indexed.")
        service = ServiceSettings(
            port=0,
            tenants_dir=layout.tenants_dir,
            state_dir=layout.state_dir,
            model_artifacts_dir=layout.models_dir,
            models="embedded",
            issuer=issuer,
            jwks_url=f"{issuer}/jwks.json",
            local_models={tenant: TenantModels(generation=writer) for tenant in tenants},
        )
        bearer, *others = [
            issue_token(Grant(tenant, "load"), state_dir=layout.state_dir, issuer=issuer)
            for tenant in tenants
        ]
        module = "assistant.service" if profile is None else "benchmarks.profiled"
        served = stack.enter_context(layout.started(module, service, plan=profile and str(profile)))
        yield Loads(stand_in, bearer), served, relay, others


@contextmanager
def _published_keys(state_dir: Path) -> Generator[str]:
    """Serve the public keys of this machine's tokens at any path; yield the issuer's URL."""
    keys = orjson.dumps(public_key_set(load_or_create_signing_key(state_dir)))

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(keys)

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter answers")
    parser.add_argument("--profile", action="store_true", help="the CPU of each step of an answer alone")
    arguments, before = parser.parse_args(), machine_line()
    effort = QUICK if arguments.quick else Effort()
    with tempfile.TemporaryDirectory() as folder:
        steps = measure_steps(Path(folder) / "profile", effort)
        if arguments.profile:
            return print_figures(steps, before=before)
        with scene(Path(folder) / "one") as (loads, service, relay, _):
            figures = asyncio.run(measure(loads, service, relay, effort)) + steps
            figures += asyncio.run(measure_peers(loads, relay, effort, folder=Path(folder) / "one"))
        with scene(Path(folder) / "two", "other") as (loads, service, _, (other,)):
            figures.append(asyncio.run(measure_other_tenant(loads, service, other, effort)))
    return print_figures(figures, before=before)


if __name__ == "__main__":
    raise SystemExit(main())
