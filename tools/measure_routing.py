"""Measures routing on labelled questions: against the words of the kinds and against one merged index.

    python -m tools.measure_routing evaluation/shop/tuning.jsonl --tenant shop

It asks the local index, with the released router of the state folder; where there was none it learns one.
``--asked`` names a TOML file of least figures; a miss ends with status 1. ``--show`` prints the misses: do
not use it on a file that must stay blind.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from assistant.cli.evaluate import open_adapted
from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import LocalRuntime, local_runtime
from assistant.cli.routing import learn_first_router
from assistant.cli.terminal import Terminal
from assistant.evaluation.routing import (
    Figure,
    RoutedQuestion,
    RoutedResult,
    RoutingTrial,
    figures,
    load_routed,
)


async def ask_all(
    runtime: LocalRuntime, ports: dict[str, int], questions: list[RoutedQuestion], *, tenant: str
) -> tuple[list[RoutedResult], str]:
    """Return the results, and which router served."""
    async with open_adapted(runtime, ports, tenant) as (services, adaptations):
        router = adaptations.now.router
        trial = RoutingTrial(services, adaptations)
        results = [await trial.ask(question) for question in questions]
    return results, "the words of the kinds" if router is None else f"router {router.sha256[:16]}"


def missed(found: Sequence[Figure], asked: Mapping[str, float]) -> list[str]:
    """Return what falls short, in words: a share by its value, a gain by the lower end of its interval."""
    by_name = {one.name: one for one in found}
    told: list[str] = []
    for name, least in asked.items():
        one = by_name.get(name)
        if one is None:
            told.append(f"{name}: no question measures it")
        elif (value := one.low if name.startswith("gain") else one.value) < least:
            told.append(f"{name}: {100 * value:.1f}, asked {100 * least:.1f}")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--tenants", type=Path, default=Path("tenants"))
    parser.add_argument("--state", type=Path, default=Path(".state"))
    parser.add_argument("--port", type=int, help="the first of the ports, where the usual ones are taken")
    parser.add_argument("--asked", type=Path, help="least figures, by their names")
    parser.add_argument("--show", action="store_true")
    asked = parser.parse_args()
    questions = load_routed(asked.questions)
    options = GlobalOptions(tenants_dir=asked.tenants, state_dir=asked.state, port=asked.port, json=False)
    runtime = local_runtime(options, Terminal())
    with runtime.processes(runtime.layout.for_loading, command="measure_routing") as ports:
        asyncio.run(load_if_empty(runtime, asked.tenant))
        asyncio.run(learn_first_router(runtime, ports, tenant=asked.tenant))
        results, served = asyncio.run(ask_all(runtime, dict(ports), questions, tenant=asked.tenant))
    out = sys.stdout
    out.write(f"{len(questions)} questions of {asked.questions}, routed by {served}\n")
    found = figures(results)
    for one in found:
        interval = f"{100 * one.low:6.1f} to {100 * one.high:5.1f}"
        out.write(f"{one.name:<42}{100 * one.value:6.1f}  [{interval}]  n = {one.questions}\n")
    if asked.show:
        for result in results:
            if result.routed_first is False or result.holds is False:
                told = f"first {result.routed_first}, document {result.document_first}, holds {result.holds}"
                out.write(f"{result.question.sources}: {told} | {result.question.question}\n")
    if asked.asked is not None:
        short = missed(found, tomllib.loads(asked.asked.read_text(encoding="utf-8")))
        if short:
            sys.exit("\n".join(f"missed: {one}" for one in short))


if __name__ == "__main__":
    main()
