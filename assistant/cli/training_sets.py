"""``assistant learn export``: training sets from what agents did, as a new folder of files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from assistant.cli.terminal import GlobalOptions, Terminal, plain, table
from assistant.domain.desk import ApprovedAnswer, DeskKind
from assistant.domain.errors import InvalidRequestError
from assistant.domain.feedback import FeedbackEvent, FeedbackText
from assistant.learning.patients_data import PatientsDataFilter
from assistant.learning.sealing import unseal_all
from assistant.settings.model_artifacts import WRITER
from assistant.tuning.set_files import counts_told
from assistant.tuning.training_sets import (
    SPLITS,
    RecordedPrompts,
    SetFacts,
    SetRules,
    Sets,
    build_sets,
    write_sets,
)
from assistant.wiring.feedback import LearningStores, open_learning

_TEXTS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The options of the command."""

    tenant: str
    since: datetime
    until: datetime
    out: Path
    rules: SetRules
    prompt: str = WRITER.prompt


def export_sets(options: GlobalOptions, chosen: ExportOptions) -> None:
    """Write the sets and show what is in them, and what was left out.

    Raises InvalidRequestError for a window without marks, ConfigurationError, ConflictError.
    """
    if chosen.since >= chosen.until:
        raise InvalidRequestError(
            f"--since {chosen.since:%Y-%m-%d} must be before --until {chosen.until:%Y-%m-%d}."
        )
    terminal = Terminal()
    with terminal.waiting("building the sets"):
        sets, folder = asyncio.run(_export(options, chosen))
    counts = {split: len(sets.examples[split]) for split in SPLITS}
    if options.json:
        terminal.json({"folder": str(folder), "examples": counts, "left_out": dict(sets.left_out)})
        return
    rows = [
        (split, str(counts[split]), str(sum(one.rejected is not None for one in sets.examples[split])))
        for split in SPLITS
    ]
    show_set(terminal, folder, ("split", "examples", "preferences"), rows, left_out=sets.left_out)


def show_set(
    terminal: Terminal,
    folder: Path,
    columns: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    *,
    left_out: Mapping[str, int],
) -> None:
    """Print what is in an exported set, a row for each split, and what is not."""
    terminal.out.print(table(*columns, right=columns[1:3], rows=rows))
    for reason, count in sorted(left_out.items()):
        if count:
            terminal.out.print(plain(f"left out, {reason}: {count}"))
    terminal.out.print(plain(f"Folder: {folder}", style="bold"))


async def _export(options: GlobalOptions, chosen: ExportOptions) -> tuple[Sets, Path]:
    config = options.tenant(chosen.tenant)
    async with open_learning(config, state_dir=options.state_dir.resolve()) as stores:
        events, texts = await _signals(stores, chosen)
        prompts = RecordedPrompts(records=stores.records, texts=stores.texts, prompt_id=chosen.prompt)
        approved = [
            ApprovedAnswer.model_validate_json(item.body)
            for item in await stores.desk.list(DeskKind.APPROVED_ANSWER)
        ]
        sets = await build_sets(
            events,
            texts=texts,
            approved=approved,
            prompt_of=prompts.of_answer,
            patients_data=PatientsDataFilter(),
            rules=chosen.rules,
        )
    if not any(sets.examples.values()):
        raise InvalidRequestError(
            f"{len(events)} events make no example (left out: {counts_told(sets.left_out)}). Take a longer "
            "window with --since."
        )
    facts = SetFacts(
        tenant=chosen.tenant,
        purpose=config.feedback.purpose,
        since=chosen.since,
        until=chosen.until,
        events=len(events),
        prompt_id=chosen.prompt,
        rules=chosen.rules,
    )
    return sets, write_sets(sets, chosen.out, facts)


async def _signals(
    stores: LearningStores, chosen: ExportOptions
) -> tuple[list[FeedbackEvent], dict[str, FeedbackText]]:
    """Return the window's events, and the words that can still be read. Raises InvalidRequestError."""
    events = [event async for event in stores.feedback.read(chosen.since, chosen.until)]
    if not events:
        raise InvalidRequestError(
            f"{chosen.tenant} has no feedback from {chosen.since:%Y-%m-%d} to {chosen.until:%Y-%m-%d}."
        )
    ids = [event.text_id for event in events if event.text_id is not None]
    words: dict[str, FeedbackText] = {}
    for start in range(0, len(ids), _TEXTS_AT_ONCE):
        sealed = await stores.feedback.texts(ids[start : start + _TEXTS_AT_ONCE])
        words |= await unseal_all(sealed.values(), stores.keys)
    return events, words
