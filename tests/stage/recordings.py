"""Records the figures of a model that writes by a model elsewhere, which sees the prompts alone.

    python -m tests.stage.recordings missing FIGURE OUT [STATE]  # prompts that no line answers, one a line
    python -m tests.stage.recordings add FIGURE OUT ANSWERS MODEL    # {"prompt_sha256", "answer"} a line

An answer's prompt follows from the reading, a reply's from the answer: repeat both until OUT is empty. Each
round has the first missing prompt of each row.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from assistant.evaluation.conversations import MODEL_TRIALS
from assistant.evaluation.judging import WrittenModel
from assistant.evaluation.measures import Figure, figure_named, read_figures
from assistant.models.recorded import RecordedAnswer, read_recording, task_of
from assistant.terminal.loading import loaded
from assistant.terminal.local import LocalRuntime, open_services
from assistant.terminal.terminal import GlobalOptions, Terminal

FOLDER = Path("evaluation")


def _recording(figure: Figure) -> Path:
    return FOLDER / (figure.recording or "")


async def _missing(runtime: LocalRuntime, figure: Figure) -> list[dict[str, Any]]:
    missing: dict[str, dict[str, Any]] = {}
    for tenant in figure.tenants:
        model = WrittenModel.of_recording(read_recording([_recording(figure)]))
        async with open_services(runtime, [tenant], generates=False) as services:
            paths = figure.paths(FOLDER, tenant=tenant)
            for row in await MODEL_TRIALS[figure.run](services[tenant], model, paths):
                for call in [call for call in row.calls if not call.text][:1]:
                    messages = [{"role": each.role, "content": each.content} for each in call.messages]
                    task = task_of(call.messages)
                    missing[call.prompt] = {"id": row.id, "task": task, "messages": messages}
    return [{"prompt_sha256": prompt, **line} for prompt, line in missing.items()]


def main() -> None:
    command, name, out, *more = sys.argv[1:]
    figure = figure_named(read_figures(FOLDER), name)
    if command == "missing":
        options = GlobalOptions(Path("tenants"), Path(more[0] if more else ".state"), 0, json=False)
        with loaded(options, Terminal(), figure.tenants, command="a recording") as runtime:
            rows = asyncio.run(_missing(runtime, figure))
        Path(out).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        sys.stderr.write(f"{len(rows)} prompts\n")
        return
    prompts, answered = (
        [json.loads(line) for line in Path(path).read_text().splitlines()] for path in (out, more[0])
    )
    answers = {row["prompt_sha256"]: row["answer"] for row in answered}
    with _recording(figure).open("a", encoding="utf-8") as file:
        for row in prompts:
            if answer := answers.get(row["prompt_sha256"]):
                named = {key: row[key] for key in ("id", "task", "prompt_sha256")}
                line = RecordedAnswer(**named, answer=answer, model=more[1], made_at=date.today())  # noqa: DTZ011
                file.write(line.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
