"""Writes generated questions as a file for ``assistant learn embedding --questions``.

    python -m tests.simulation.held_out_questions --tenant clinic --out FILE.jsonl

They judge ranking alone: no text is known that a right answer holds. One of their templates or sentences is
never an agent's, and none is written by hand, so read them beside the committed questions.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from assistant.cli.evaluate import open_services
from assistant.cli.knowledge import load_if_empty
from assistant.cli.learn import read_documents
from assistant.cli.local import local_runtime
from assistant.cli.terminal import GlobalOptions, Terminal
from assistant.domain.documents import StoredDocument
from assistant.evaluation.questions import EvaluationQuestion
from tests.simulation.questions import Questions

SEED, EACH = 11, 2


def as_evaluation(documents: list[StoredDocument]) -> list[EvaluationQuestion]:
    """Return up to two questions of each document; another document that says the same is right too."""
    made = Questions(documents, seed=SEED).of_test(each=EACH, apart_from=())
    return [
        EvaluationQuestion(
            qid=f"generated-{one.document_id}-{number}",
            kind="plain",
            question=one.text,
            documents=(one.document_id, *sorted(one.right - {one.document_id})),
        )
        for number, one in enumerate(made)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--tenants", type=Path, default=Path("tenants"))
    parser.add_argument("--state", type=Path, default=Path(".state"))
    parser.add_argument("--port", type=int)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    options = GlobalOptions(tenants_dir=given.tenants, state_dir=given.state, port=given.port, json=False)
    runtime = local_runtime(options, Terminal())

    async def read() -> list[StoredDocument]:
        await load_if_empty(runtime, given.tenant)
        async with open_services(runtime, ports, [given.tenant]) as services:
            return await read_documents(services[given.tenant].search, options, given.tenant)

    with runtime.processes(runtime.layout.for_loading, command="generated questions") as ports:
        questions = as_evaluation(asyncio.run(read()))
    lines = [one.model_dump_json(exclude_defaults=True) for one in questions]
    given.out.write_text("\n".join(lines) + "\n")
    print(f"{given.out}: {len(lines)} questions")


if __name__ == "__main__":
    main()
