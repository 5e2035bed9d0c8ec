"""Mode ``throughput`` of the model server against the runtime's own loop; the simulator against the server.

    python -m benchmarks.batching [--rounds N]

Server and loop take turns, so that their ratio holds on a machine that others use too. The simulator is
calibrated before each load, and then gets the arrivals and lengths that the server had.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from assistant.capacity.calibration import calibrate, chat_body, has_token, stream_answer
from assistant.capacity.simulation import Fleet, Load, Outcome, simulate
from assistant.model_server.generation import LlamaRuntime
from assistant.model_server.weights import locate_weights
from assistant.settings.process import ModelServerSettings
from benchmarks.indexing import machine_line
from tools.processes import end_on_signals, started
from tools.tables import Figure, figures_table

_SLOTS, _CONTEXT_TOKENS = 8, 2048
_WORDS, _TOKENS, _LONG_TOKENS, _SHORT_TOKENS = 6, 96, 600, 8
_REQUESTS = 150
_BEGIN_S = 0.25


def own_loop(runtime: LlamaRuntime, *, count: int, tokens: int) -> list[list[float]]:
    """Return when each token came, in seconds since the start, of answers by the runtime without HTTP."""
    began_s, stamps = time.monotonic(), [list[float]() for _ in range(count)]

    def answer(token_s: list[float]) -> None:
        def take(chunk: dict[str, Any]) -> None:
            if has_token(chunk):
                token_s.append(time.monotonic() - began_s)

        runtime.servers[0].handle_chat_completions(chat_body(words=_WORDS, tokens=tokens), take)

    with ThreadPoolExecutor(count) as threads:
        list(threads.map(answer, stamps))
    return stamps


def _per_s(stamps: list[list[float]]) -> float:
    return sum(map(len, stamps)) / max(each[-1] for each in stamps)


async def measure_batching(url: str, runtime: LlamaRuntime) -> tuple[float, float, bool]:
    """Return the server's share of the runtime's tokens/s with eight at once, and of the time that a short
    answer beside seven long ones may take; and whether it ended before all of them."""

    async with httpx.AsyncClient(timeout=600, trust_env=False) as client:

        def ask(tokens: int, count: int) -> list[asyncio.Task[tuple[list[float], int]]]:
            answers = (stream_answer(client, url, words=_WORDS, tokens=tokens) for _ in range(count))
            return [asyncio.create_task(each) for each in answers]

        own = await asyncio.to_thread(own_loop, runtime, count=_SLOTS, tokens=_TOKENS)
        served = await asyncio.gather(*ask(_TOKENS, _SLOTS))
        ((*_, alone_s),) = await asyncio.to_thread(own_loop, runtime, count=1, tokens=1)
        longs = ask(_LONG_TOKENS, _SLOTS - 1)
        await asyncio.sleep(max(each[0] for each in own) + _BEGIN_S)  # all long ones are writing by then
        short, _ = await ask(_SHORT_TOKENS, 1)[0]
        is_first = not any(task.done() for task in longs)
        await asyncio.gather(*longs)
    step_s = float(np.median(np.diff(own[0][_TOKENS // 4 : -_TOKENS // 4])))
    ratio = _per_s([token_s for token_s, _ in served]) / _per_s(own)
    return ratio, short[-1] / (1.3 * alone_s + _SHORT_TOKENS * step_s), is_first


async def measure_simulator(url: str, *, share: float, rounds: int) -> list[Figure]:
    """Calibrate, send a Poisson load of ``share`` of what fills the server, and simulate the same."""
    timings = await calibrate(url, rounds=rounds)
    many = simulate(Load([0.0] * _SLOTS, [330] * _SLOTS, [22] * _SLOTS), timings, Fleet(1))
    rate = share * _SLOTS / float(many.end_s.max())
    at, tasks = list[float](), list[asyncio.Task[tuple[list[float], int]]]()
    began_s = time.monotonic()
    async with httpx.AsyncClient(timeout=600, trust_env=False) as client:
        for _ in range(_REQUESTS):
            await asyncio.sleep(random.expovariate(rate))
            at.append(time.monotonic() - began_s)
            words, tokens = random.randint(4, 24), random.randint(4, 40)
            tasks.append(asyncio.create_task(stream_answer(client, url, words=words, tokens=tokens)))
        seen = await asyncio.gather(*tasks)
    load = Load(at, [prompt for _, prompt in seen], [len(token_s) for token_s, _ in seen])
    ends = [begin + token_s[-1] for begin, (token_s, _) in zip(at, seen, strict=True)]
    both = (
        Outcome(load, np.array([token_s[0] for token_s, _ in seen]), np.array(ends)),
        simulate(load, timings, Fleet(1)),
    )
    figures = {
        "p50 of the first token, ms": [1000 * each.first_token_s(50) for each in both],
        "p95 of the first token, ms": [1000 * each.first_token_s(95) for each in both],
        "tokens/s": [each.tokens_per_s for each in both],
    }
    return [
        Figure(
            f"simulated, {share:.0%} of a full server: {what}",
            "≤ 15 % off",
            f"{made:.1f}, seen {was:.1f}: {made / was - 1:+.0%}",
            abs(made / was - 1) <= 0.15,
        )
        for what, (was, made) in figures.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    end_on_signals()
    size = {"slots": _SLOTS, "context_tokens": _CONTEXT_TOKENS}
    with tempfile.TemporaryDirectory() as folder:
        settings = ModelServerSettings.model_validate(
            size
            | {"task": "generation", "port": 0, "mode": "throughput", "queue_size": _REQUESTS}
            | {"artifacts_dir": folder}
        )
        runtime = LlamaRuntime(
            locate_weights(settings).path, model="own", threads=settings.threads, mode="throughput", **size
        )
        runtime.start()
        log = Path(folder) / "log"
        with started(
            "assistant.model_server", log=log, environment=settings.environment(), timeout_s=60
        ) as server:
            print(machine_line())
            measured = [asyncio.run(measure_batching(server.url, runtime)) for _ in range(rounds)]
            ratio, short = (median(each[place] for each in measured) for place in (0, 1))
            is_first = all(each[2] for each in measured)
            figures = [
                Figure("tokens/s of 8 at once, of the runtime's own", "≥ 90 %", f"{ratio:.1%}", ratio >= 0.9),
                Figure(
                    "short beside 7 long ones, of 1.3 prefills and its steps",
                    "≤ 100 %",
                    f"{short:.0%}",
                    short <= 1,
                ),
                Figure("… and ends before each of them", "always", "always" if is_first else "not", is_first),
            ]
            print(figures_table(figures), flush=True)
            for share in (0.4, 0.6, 0.8):
                print(figures_table(asyncio.run(measure_simulator(server.url, share=share, rounds=rounds))))
                print(machine_line(), flush=True)
        runtime.close()


if __name__ == "__main__":
    main()
