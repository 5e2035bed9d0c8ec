"""What is not in force is not shown as valid; it is found by a question that asks for it, and says so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from assistant.documents.files import SourceDocument, file_of
from assistant.documents.sources import KnowledgeSource
from assistant.domain.documents import Document, DocumentState, DocumentStatus
from assistant.stores.documents import read_editions
from assistant.tenant.tenant import SourceEntry
from assistant.text.editions import Editions, read_in_force
from tests.stage.answering import FakeTenant, LiveStates, indexed
from tests.stage.tenant_stores import SteppedClock
from tests.unit.answer.asking_and_reading import Asked, ask
from tests.unit.documents.scene import read, write

NOW = datetime(2026, 11, 30, 15, 0, tzinfo=UTC)
ROWS = [orjson.loads(line) for line in Path(__file__).with_name("in_force.jsonl").read_bytes().splitlines()]
IN_FORCE: dict[str, Mapping[str, str]] = {row["name"]: row["in_force"] for row in ROWS if "in_force" in row}
SHARE = KnowledgeSource(SourceEntry(name="share", namespace="", access="everyone"), labels=(), vocabulary=())


PLANTED = [SimpleNamespace(**row) for row in ROWS if "in_force" not in row]
"""Folders of which ``old``, path and content, is not in force. ``question`` asks for ``now``, what holds at
``NOW``; ``asked`` for ``says``, words of the old document alone; ``others`` are in force."""


def page(title: str, text: str, **keys: str) -> str:
    """Return a Markdown file."""
    front = "".join(f"{key}: {value}\n" for key, value in keys.items())
    return f"---\n{front}---\n# {title}\n\n{text}\n" if front else f"# {title}\n\n{text}\n"


def status_of(document: Document, origin: str) -> DocumentStatus:
    shared = {
        name: getattr(document, name) for name in ("document_id", "title", "effective_date", "in_force")
    }
    return DocumentStatus(
        **shared,
        state=DocumentState.LIVE,
        content_hash=f"hash-of-{document.document_id}",
        live_content_hash=f"hash-of-{document.document_id}",
        received_at=NOW,
        updated_at=NOW,
        labels=document.labels,
        origin=file_of(origin),
    )


def load(folder: Path, files: Mapping[str, str]) -> FakeTenant:
    """Return a tenant with these files, by path, as a load of their folder leaves them."""
    for path, content in files.items():
        write(folder / path, content)
    read_again = [item for item in read(folder) if isinstance(item, SourceDocument)]
    made = [(SHARE.as_tenant_document(item), item.origin) for item in read_again]
    tenant = FakeTenant(clock=SteppedClock(NOW)).with_documents(*(indexed(document) for document, _ in made))
    statuses = {document.document_id: status_of(document, origin) for document, origin in made}
    tenant.live = LiveStates(statuses)
    return tenant


def shown(asked: Asked) -> str:
    """Return all that an agent sees: the answer, other sections, and the snippets of the sources."""
    also = (part.text for part in asked.done.also)
    return "\n".join((asked.text, *also, *(source.snippet for source in asked.sources.sources)))


async def of_planted(folder: Path, planted: Any) -> tuple[bool, bool]:
    """Return whether a question about today shows what is not in force, and whether the question that asks
    for it finds it, says so before its words, and names it so among the sources."""
    tenant = load(folder, {planted.old[0]: planted.old[1], **planted.others})
    present = shown(await ask(tenant, planted.question))
    assert planted.now in present
    is_shown = planted.says in present
    asked = await ask(tenant, planted.asked)
    text = asked.text
    says_first = "Not in force" in text and text.index("Not in force") < text.find(planted.says)
    return is_shown, says_first and any(
        source.banner.startswith("Not in force") for source in asked.sources.sources
    )


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
async def test_what_is_not_in_force_is_found_only_when_asked_for(tmp_path: Path, planted: Any) -> None:
    assert await of_planted(tmp_path, planted) == (False, True)


@pytest.mark.parametrize("files", IN_FORCE.values(), ids=IN_FORCE)
async def test_what_is_in_force_is_never_called_otherwise(tmp_path: Path, files: Mapping[str, str]) -> None:
    tenant = load(tmp_path, files)
    assert len(tenant.live.live) == len(files)
    assert [
        each for each in (await read_editions(tenant.live)).known.values() if not each.holds(NOW.date())
    ] == []


@pytest.mark.parametrize(
    ("path", "title", "never"),
    [
        ("stock.jsonl", "Gable 44 pack (old)", None),
        ("stock.json", "Town plan [1890, OLD]", None),
        ("kb.jsonl", "[Archived] Dog tax", "archived"),
        ("OLD/stock.jsonl", "Gable 44 pack", "in the folder old"),
        ("pack.md", "Gable 44 pack (old)", "old"),
    ],
)
def test_the_name_of_a_thing_among_many_says_nothing_of_a_document(
    path: str, title: str, never: str | None
) -> None:
    said = read_in_force({}, path=path, title=title, content="")
    assert (said.never or None if said else None) == never


async def test_tomorrow_s_rule_comes_in_force_without_a_reload(tmp_path: Path) -> None:
    rules = {
        "fees.md": page("Fees", "A locker costs 4 dollars."),
        "fees-v2.md": page("Fees", "A locker costs 6 dollars.", effective_date="2026-12-01"),
    }
    tenant = load(tmp_path, rules)
    before = await ask(tenant, "What does a locker cost?")
    assert ("4 dollars" in before.text, "6 dollars" in shown(before)) == (True, False)
    tenant.clock = SteppedClock(NOW + timedelta(days=1))
    after = await ask(tenant, "What does a locker cost?")
    assert ("6 dollars" in after.text, "4 dollars" in shown(after)) == (True, False)


async def test_a_title_is_told_only_to_those_who_may_open_its_document(tmp_path: Path) -> None:
    files = {"OLD/fees.md": page("Fees", "A locker cost 4 dollars."), "fees.md": page("Fees", "Now five.")}
    tenant = load(tmp_path, files)
    labelled = tenant.live.live["fees"].model_copy(update={"labels": ("hr",)})
    tenant.live.live["fees"] = labelled
    editions = await read_editions(tenant.live)
    old = editions.known["OLD-fees"]
    assert editions.note(old, NOW.date(), labels=frozenset()) == "Not in force: in the folder old."
    assert editions.note(old, NOW.date(), labels=frozenset({"hr"})).endswith(" In force: Fees.")


async def test_a_draft_that_no_list_knows_yet_is_not_shown(tmp_path: Path) -> None:
    tenant = load(tmp_path, {"fees.md": page("Fees", "A locker costs 4 dollars.", draft="true")})
    tenant.live.live.clear()
    assert "4 dollars" not in shown(await ask(tenant, "What does a locker cost?"))


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("What does a locker cost in 2026?", False),  # it asks for the present year
        ("May she keep 2000 lockers?", False),
        ("How long does a locker cost 4 dollars, 24/7?", False),
        ("What did a locker cost in June 2026?", True),
        ("What did a locker cost in the second half of 2025?", True),
        ("What does a locker cost from June?", False),  # the coming one
        ("Are old lockers cheaper?", True),
    ],
)
async def test_a_question_asks_for_what_has_ended_by_its_days(
    tmp_path: Path, question: str, found: bool
) -> None:
    tenant = load(tmp_path, {"a.md": page("Lockers", "A locker costs 4 dollars.", valid_until="2026-06-30")})
    assert ("4 dollars" in shown(await ask(tenant, question))) is found


@pytest.mark.parametrize(
    ("names", "over"),
    [
        (("plan-v1 2024.md", "plan-v2 2025.md"), ["plan-v1-2024"]),  # however much was written anew
        (("report 2024.md", "report 2025.md"), []),
        (("minutes.md", "minutes 2025-03-01.md"), []),
        (("fees-v9.md", "fees-v10.md"), ["fees-v9"]),
        (("fees.md", "fees-v1.md"), ["fees-v1"]),
        (("north/fees-v1.md", "south/fees-v2.md"), []),
        (("vaccine-fund 2016.md", "school-fund.md"), []),  # a letterhead is the title of both
    ],
)
async def test_names_tell_editions_and_words_tell_records_apart(
    tmp_path: Path, names: tuple[str, str], over: list[str]
) -> None:
    texts = ("Ana asks for a fridge, and waits.", "The roof of lab four leaks; nobody came.")
    files = {name: page("Page", text) for name, text in zip(names, texts, strict=True)}
    editions = await read_editions(load(tmp_path, files).live)
    assert [name for name, each in editions.known.items() if not each.holds(NOW.date())] == over


def test_editions_are_of_one_source() -> None:
    statuses = [
        status_of(
            Document(document_id=name, title="Fees", content="Four.", media_type="text/plain", labels=()),
            f"{path}:1",
        )
        for name, path in (("north:a", "fees-v1.md"), ("north:b", "fees-v2.md"), ("south:c", "fees-v1.md"))
    ]
    editions = Editions.of(statuses)
    assert [name for name, each in editions.known.items() if not each.holds(NOW.date())] == ["north:a"]


async def test_owners_are_told_what_begins_ends_was_replaced_and_may_contradict(tmp_path: Path) -> None:
    files = {
        "a.md": page("Lockers", "Four.", effective_date="2027-02-01"),
        "b.md": page("Keys", "Five.", valid_until="2026-12-31"),
        "plan-v1.md": page("Plan", "Six."),
        "plan-v2.md": page("Plan", "Seven."),
        "tax.md": page("Tax", "Eight."),
        "tax-2026.md": page("Tax", "Nine."),
    }
    tenant = load(tmp_path, files)
    editions = await read_editions(tenant.live)
    notes = {
        name: editions.noted(status, NOW.date()).in_force_note for name, status in tenant.live.live.items()
    }
    assert notes == {
        "a": "Not in force yet: from 2027-02-01.",
        "b": "In force until 2026-12-31.",
        "plan-v1": "Not in force: an older edition. In force: Plan.",
        "plan-v2": "",
        "tax": "May contradict: Tax.",
        "tax-2026": "May contradict: Tax.",
    }
