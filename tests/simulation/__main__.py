"""``python -m tests.simulation``: ten simulated days of learning for one tenant, and what they gain."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import LocalRuntime, local_runtime, open_services
from assistant.cli.terminal import GlobalOptions, Terminal
from assistant.evaluation.questions import load_questions
from assistant.tuning.gate import read_protected
from tests.simulation.agents import World, staff
from tests.simulation.learners import Gated
from tests.simulation.proof import HeldOutSet, Scene, prove
from tests.simulation.questions import Questions, SimulatedQuestion
from tests.simulation.replay import Asking, Candidates, Replay, differences, key_of, read, write

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "simulation"
_ASKED_SHARE = 0.5
_OF_AGENTS, _OF_TEST = 4, 3
_COMMITTED = "committed"


def main() -> int:
    plan = _arguments()
    found, titles = _found(plan)
    about = {one.question.document_id for one in found if one.question.side == "agents"}
    replays = [Replay(one) for one in found]
    asked = [one for one in replays if one.found.question.side == "agents"]
    world = World(plan.tenant, asked, titles)
    agents = staff(plan.agents, seed=plan.seed, questions=plan.questions)
    judge = HeldOutSet(_groups([one for one in replays if one.found.question.side == "test"], about))
    scene = Scene(world, agents, judge, days=plan.days, seed=plan.seed, replay_differs=differences(replays))
    protected = read_protected(_protected_path(plan.tenant), tenant=plan.tenant)
    teach = partial(Gated, tenant=plan.tenant, seed=plan.seed, protected=protected)
    proof = prove(scene, teach, say=_say)
    print("\n".join(proof.lines()))
    return 1 if proof.harm() else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--tenant", default="clinic")
    parser.add_argument(
        "--state", type=Path, default=ROOT / ".state", help="folder of the local processes' data"
    )
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--agents", type=int, default=40)
    parser.add_argument("--questions", type=int, default=20, help="of an agent a day, in the mean")
    parser.add_argument("--seed", type=int, default=11)
    return parser.parse_args()


def _groups(test: Sequence[Replay], about: set[str]) -> dict[str, list[Replay]]:
    groups: dict[str, list[Replay]] = {"asked about": [], "others": []}
    groups |= {f"{_COMMITTED}, asked about": [], f"{_COMMITTED}, others": []}
    for one in test:
        side = "asked about" if one.found.question.right & about else "others"
        is_committed = one.found.question.question_id.startswith(_COMMITTED)
        groups[f"{_COMMITTED}, {side}" if is_committed else side].append(one)
    return groups


# --- asking the product ---------------------------------------------------------------------------------


def _found(plan: argparse.Namespace) -> tuple[list[Candidates], Mapping[str, str]]:
    """Return what the product found for every question, from the last run where nothing has changed."""
    options = GlobalOptions(tenants_dir=ROOT / "tenants", state_dir=plan.state, port=0, json=True)
    runtime = local_runtime(options, Terminal(steps=False))
    with runtime.processes(runtime.layout.for_loading, command="python -m tests.simulation") as ports:
        asyncio.run(load_if_empty(runtime, plan.tenant))
        return asyncio.run(_ask(runtime, ports, plan))


async def _ask(
    runtime: LocalRuntime, ports: Mapping[str, int], plan: argparse.Namespace
) -> tuple[list[Candidates], Mapping[str, str]]:
    async with open_services(runtime, ports, [plan.tenant]) as services:
        asking = Asking(services[plan.tenant])
        documents = await asking.documents(_document_ids(plan.tenant))
        titles = {one.card.document_id: one.card.title for one in documents}
        made = Questions(documents, seed=plan.seed)
        agents = made.of_agents(made.asked_about(_ASKED_SHARE), each=_OF_AGENTS)
        test = made.of_test(each=_OF_TEST, apart_from=agents)
        questions = [*agents, *test, *_committed(plan.tenant)]
        version = (await services[plan.tenant].search.info()).index_version
        key, path = key_of(questions, version), KEPT / f"{plan.tenant}-{plan.seed}.jsonl.gz"
        found = read(path, key=key)
        if found is None:
            _say(f"asking {len(questions)} questions of {plan.tenant}, {len(agents)} of them of agents")
            found = await asking.ask_all(questions, say=_say)
            write(path, found, key=key)
            _protected_path(plan.tenant).unlink(missing_ok=True)
        if not _protected_path(plan.tenant).is_file():
            _say("asking the committed questions, which the gate protects")
            protected = await asking.protected(load_questions(_committed_path(plan.tenant)))
            _protected_path(plan.tenant).write_text(protected.model_dump_json(), encoding="utf-8")
        return found, titles


def _committed(tenant: str) -> list[SimulatedQuestion]:
    """Return the committed questions with one document: written by hand by other authors."""
    return [
        SimulatedQuestion(
            f"{_COMMITTED}:{one.qid}", one.question, one.documents[0], f"{_COMMITTED}:{one.qid}",
            frozenset(one.documents), "test",
        )
        for one in load_questions(_committed_path(tenant))
        if one.kind in ("plain", "condition", "messy") and len(one.documents) == 1
    ]  # fmt: skip


def _committed_path(tenant: str) -> Path:
    return ROOT / "evaluation" / f"{tenant}.jsonl"


def _protected_path(tenant: str) -> Path:
    return KEPT / f"{tenant}-protected.json"


def _document_ids(tenant: str) -> list[str]:
    folder = ROOT / "knowledge" / tenant
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    pages = [path.stem for path in sorted(folder.iterdir()) if path.suffix in (".md", ".html")]
    return [json.loads(line)["id"] for line in lines] + pages


def _say(line: str) -> None:
    print(f"· {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    random.seed(0)  # nothing here draws from the shared generator
    sys.exit(main())
