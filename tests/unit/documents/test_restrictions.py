"""What restricts a document takes effect before its body is read; what cannot be read takes it away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from assistant.documents.files import SourceDocument
from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSource, Writer
from assistant.domain.documents import DocumentState
from assistant.tenant.tenant import SourceEntry
from tests.unit.documents.scene import (
    DECLARED,
    HANDBOOK,
    LABELS,
    OLGA,
    PUBLIC,
    SPELLINGS,
    Accesses,
    Knowledge,
    bring,
    document,
    inventions,
    load,
    seen,
    until,
)

FOLDER = KnowledgeSource(
    SourceEntry(name="handbook", namespace="", access="folder", folders={"": ("hr",)}),
    labels=LABELS,
    vocabulary=LABELS,
)
HOLDER = Writer("hanna", frozenset({"hr"}))
WIDER = b"---\nlabels: []\n---\n# Pay\n\nThe salary is 61 thousand.\n"
HR = b"---\nlabels: [hr]\n---\n# Pay\n\nThe salary is 61 thousand.\n"
STAFF = b"---\nlabels: [hr, staff]\n---\n# Pay\n\nThe salary is 61 thousand.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "given"
    made.mkdir()
    return made


@pytest.mark.parametrize("source", [DECLARED, FOLDER], ids=["declared", "folder"])
async def test_no_spelling_makes_a_restricted_document_public(
    knowledge: Knowledge, folder: Path, source: KnowledgeSource
) -> None:
    for number, (name, content) in enumerate(SPELLINGS.values()):
        path = folder / str(number) / name
        path.parent.mkdir()
        path.write_bytes(content)
    await load(knowledge, folder, source=source)
    await knowledge.work()
    assert await seen(knowledge) == set()


@pytest.mark.parametrize("source", [DECLARED, FOLDER], ids=["declared", "folder"])
async def test_no_invention_is_readable_without_the_label(
    knowledge: Knowledge, folder: Path, source: KnowledgeSource
) -> None:
    files = {**inventions(with_a_key=True), **inventions(with_a_key=False)}
    assert len(files) == 200
    for name, content in files.items():
        (folder / name).write_bytes(content)
    summary = await load(knowledge, folder, source=source)
    await knowledge.work()
    assert await seen(knowledge) == set()
    if source is DECLARED:
        assert len(summary.failures) == 200


async def test_where_everyone_reads_a_label_under_a_key_that_is_not_read_refuses_the_document(
    knowledge: Knowledge, folder: Path
) -> None:
    files = inventions(with_a_key=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    summary = await bring(
        knowledge, folder, b"---\nkeywords: [salary, wages]\n---\n# Pay\n\nThe salary.", name="plain.md"
    )
    assert {failure.origin.partition(":")[0] for failure in summary.failures} == set(files)
    assert await seen(knowledge) == {"plain"}


async def test_a_folder_gives_the_labels_of_its_files(knowledge: Knowledge, folder: Path) -> None:
    """The longest path counts; a file may narrow what its folder gives, and not widen it."""
    page = "---\nid: {id}\n{labels}\n---\n# Pay\n\nThe salary."
    files = {
        "office/a.md": page.format(id="a", labels=""),
        "office/pay/b.md": page.format(id="b", labels=""),
        "office/c.md": page.format(id="c", labels="labels: [hr]"),
        "office/d.md": page.format(id="d", labels="labels: []"),
        "office/pay/e.md": page.format(id="e", labels="labels: [staff]"),
        "officer/f.md": page.format(id="f", labels=""),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    entry = SourceEntry(
        name="handbook",
        namespace="",
        access="folder",
        folders={"office": ("hr", "staff"), "office/pay": ("hr",)},
    )
    source = KnowledgeSource(entry, labels=LABELS, vocabulary=LABELS)
    summary = await load(knowledge, folder, source=source)
    await knowledge.work()
    reasons = {failure.origin: failure.reason for failure in summary.failures}
    assert await seen(knowledge, "staff") == {"a"}
    assert await seen(knowledge, "hr") == {"a", "b", "c"}
    assert reasons["office/d.md"].startswith("labels: its folder gives hr, staff, and a document may only")
    assert reasons["office/pay/e.md"].startswith("labels: its folder gives hr, and")
    assert reasons["officer/f.md"].startswith('labels: folders of the source "handbook" names no folder of')


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_public_document_is_public_no_longer_once_a_file_restricts_it(
    knowledge: Knowledge, folder: Path, spelling: str
) -> None:
    name, content = SPELLINGS[spelling]
    await bring(knowledge, folder, PUBLIC[name], name=name, source=DECLARED)
    assert await seen(knowledge) == {"pay"}
    summary = await bring(knowledge, folder, content, name=name, source=DECLARED)
    assert await seen(knowledge) == set()
    status = await knowledge.status("pay")
    if summary.failures:
        assert [one.document_id for one in summary.withheld] == ["pay"]
        assert status.state == DocumentState.WITHHELD
        assert status.failure_reason
        assert status.failure_reason.startswith(summary.failures[0].origin)
    else:
        assert (status.state, status.labels) == (DocumentState.LIVE, ("hr",))


async def test_what_was_withheld_answers_again_when_it_is_sent_again(
    knowledge: Knowledge, folder: Path
) -> None:
    for content in (PUBLIC["pay.md"], b"---\nlabels: {hr}\n---\nx", PUBLIC["pay.md"]):
        await bring(knowledge, folder, content)
    assert await seen(knowledge) == {"pay"}
    status = await knowledge.status("pay")
    assert (status.state, status.failure_code) == (DocumentState.LIVE, None)


async def test_labels_count_before_the_body_is_parsed_and_when_it_cannot_be(
    knowledge: Knowledge, folder: Path
) -> None:
    await bring(knowledge, folder, PUBLIC["pay.md"])
    (folder / "pay.md").write_bytes(b"---\ntitle: Pay\nlabels: [hr]\n---\n" + b"> " * 200 + b"too deep")
    await load(knowledge, folder)
    status = await knowledge.status("pay")
    assert (status.live_content_hash, status.labels) == (None, ("hr",))
    await knowledge.work()
    assert (await seen(knowledge), await seen(knowledge, "hr")) == (set(), set())
    assert await knowledge.state("pay") == DocumentState.FAILED


async def test_narrower_labels_wait_for_no_backlog(knowledge: Knowledge, folder: Path) -> None:
    """The worker is held up in the embedding endpoint, with two batches behind it."""
    await bring(knowledge, folder, PUBLIC["pay.md"])
    asked, go_on = knowledge.embedder.hold()
    await knowledge.add(*(document(f"d{number}") for number in range(300)))

    async def is_out() -> bool:
        return await seen(knowledge) == set()

    async with knowledge.working():
        try:
            await asyncio.wait_for(asked.wait(), 60)
            (folder / "pay.md").write_bytes(HR)
            await load(knowledge, folder)
            await until(is_out)
            assert await knowledge.stores.queue.depth() == 301
        finally:
            go_on.set()


async def test_labels_are_narrowed_by_any_writer_and_the_new_content_answers_its_readers(
    knowledge: Knowledge, folder: Path
) -> None:
    for content in (PUBLIC["pay.md"], STAFF, HR):
        (folder / "pay.md").write_bytes(content)
        summary = await load(knowledge, folder)
        assert summary.failures == []
        await knowledge.work()
    assert (await seen(knowledge), await seen(knowledge, "staff")) == (set(), set())
    assert await seen(knowledge, "hr") == {"pay"}


@pytest.mark.parametrize("wider", [WIDER, STAFF, HR.replace(b"[hr]", b"[staff]")])
async def test_who_does_not_hold_the_labels_makes_no_document_readable_to_more(
    knowledge: Knowledge, folder: Path, wider: bytes
) -> None:
    await bring(knowledge, folder, HR)
    (folder / "pay.md").write_bytes(wider)
    accesses = Accesses()
    summary = await load(knowledge, folder, accesses=accesses)
    await knowledge.work()
    assert [(one.origin, one.code) for one in summary.failures] == [("pay.md", "labels_widened")]
    assert [(one.agent, one.kind, one.subject_id) for one in accesses.entries] == [
        ("olga", "widening", "pay")
    ]
    assert (await seen(knowledge), await seen(knowledge, "staff")) == (set(), set())
    assert await seen(knowledge, "hr") == {"pay"}
    assert await knowledge.state("pay") == DocumentState.LIVE


async def test_a_holder_of_all_labels_widens_them(knowledge: Knowledge, folder: Path) -> None:
    await bring(knowledge, folder, STAFF)
    (folder / "pay.md").write_bytes(WIDER)
    one_label = await load(knowledge, folder, writer=HOLDER)
    assert [one.code for one in one_label.failures] == ["labels_widened"]
    both = await load(knowledge, folder, writer=Writer("hanna", frozenset({"hr", "staff"})))
    assert both.failures == []
    await knowledge.work()
    assert await seen(knowledge) == {"pay"}
    assert (await load(knowledge, folder)).unchanged == 1


async def test_the_labels_of_a_withdrawn_document_count_when_it_comes_again(
    knowledge: Knowledge, folder: Path
) -> None:
    await bring(knowledge, folder, HR)
    await knowledge.forget("pay")
    (folder / "pay.md").write_bytes(WIDER)
    summary = await load(knowledge, folder)
    assert [one.code for one in summary.failures] == ["labels_widened"]
    assert await knowledge.state("pay") == DocumentState.WITHDRAWN


async def test_the_labels_of_a_row_that_does_not_know_them_are_its_document_s(
    knowledge: Knowledge, folder: Path
) -> None:
    await bring(knowledge, folder, HR)
    before = await knowledge.status("pay")
    await knowledge.stores.states.put_many(
        [before.model_copy(update={"labels": None, "live_labels": None, "origin": None})]
    )
    (folder / "pay.md").write_bytes(WIDER)
    assert [one.code for one in (await load(knowledge, folder)).failures] == ["labels_widened"]
    (folder / "pay.md").write_bytes(HR)
    assert (await load(knowledge, folder)).unchanged == 1
    after = await knowledge.status("pay")
    assert (after.labels, after.live_labels, after.origin) == (("hr",), ("hr",), "pay.md")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pay.md", b"---\nwithdrawn: true\n---\n"),
        ("pay.html", b'<meta name="withdrawn" content="true">'),
        ("pay.jsonl", b'{"id": "pay", "withdrawn": true}'),
        ("pay.jsonl", b'{"id": "pay", "question": "Pay?", "answer": "A", "withdrawn": "true"}'),
    ],
)
async def test_a_file_that_says_withdrawn_withdraws_its_document(
    knowledge: Knowledge, folder: Path, name: str, content: bytes
) -> None:
    await bring(knowledge, folder, PUBLIC[name], name=name)
    summary = await bring(knowledge, folder, content, name=name)
    assert (summary.lines, summary.withdrawn, summary.failures) == (1, 1, [])
    assert await seen(knowledge) == set()
    assert await knowledge.state("pay") == DocumentState.WITHDRAWN
    assert await knowledge.stores.documents.get("pay") is None


async def test_a_refused_file_withholds_the_document_whose_id_it_says(
    knowledge: Knowledge, folder: Path
) -> None:
    await bring(knowledge, folder, b"---\nid: pay-rules\n---\n# Pay\n\nThe salary.\n", name="a.md")
    (folder / "a.md").rename(folder / "b.md")
    (folder / "b.md").write_bytes(b"---\nid: pay-rules\nlabels: {hr}\n---\n# Pay\n\nThe salary.\n")
    summary = await load(knowledge, folder)
    assert [one.document_id for one in summary.withheld] == ["pay-rules"]


async def test_a_refused_file_without_a_readable_id_withholds_what_it_brought_before(
    knowledge: Knowledge, folder: Path
) -> None:
    (folder / "a.md").write_bytes(b"---\nid: pay-rules\n---\n# Pay\n\nThe salary.\n")
    await bring(knowledge, folder, b"---\nid: a\n---\n# Other\n\nThe weather.\n", name="b.md")
    (folder / "a.md").write_bytes(b'---\nid: "pay-\nlabels: [hr]\n---\n# Pay\n\nThe salary.\n')
    summary = await load(knowledge, folder)
    assert [one.document_id for one in summary.withheld] == ["pay-rules"]
    await knowledge.work()
    assert await seen(knowledge) == {"a"}


async def test_a_line_without_a_readable_id_withholds_what_its_file_no_longer_brings(
    knowledge: Knowledge, folder: Path
) -> None:
    lines = [b'{"id": "p%d", "question": "Pay?", "answer": "A"}' % number for number in range(3)]
    await bring(knowledge, folder, b"\n".join(lines), name="a.jsonl")
    lines[1] = b'{"id": p1, "labels": ["hr"]'
    (folder / "a.jsonl").write_bytes(b"\n".join(lines))
    summary = await load(knowledge, folder)
    assert [one.document_id for one in summary.withheld] == ["p1"]
    await knowledge.work()
    assert await seen(knowledge) == {"p0", "p2"}


async def test_two_files_with_one_id_and_different_labels_are_both_refused(
    knowledge: Knowledge, folder: Path
) -> None:
    await bring(knowledge, folder, b"---\nid: pay\n---\n# Pay\n\nThe salary.\n", name="a.md")
    summary = await bring(
        knowledge, folder, b"---\nid: pay\nlabels: [hr]\n---\n# Pay\n\nThe salary.\n", name="b.md"
    )
    assert [one.origin for one in summary.failures] == ["b.md", "a.md"]
    assert summary.lines == summary.documents + len(summary.failures)
    assert await seen(knowledge) == set()
    assert await knowledge.state("pay") == DocumentState.WITHHELD


async def test_a_worker_that_was_at_it_makes_nothing_live_that_was_withheld(
    knowledge: Knowledge, folder: Path
) -> None:
    (folder / "pay.md").write_bytes(PUBLIC["pay.md"])
    await load(knowledge, folder)

    async def refuse(_texts: object) -> None:
        knowledge.embedder.before = None
        (folder / "pay.md").write_bytes(b"---\nlabels: {hr}\n---\nx")
        await load(knowledge, folder)

    knowledge.embedder.before = refuse
    await knowledge.work()
    assert await seen(knowledge) == set()
    assert await knowledge.state("pay") == DocumentState.WITHHELD


async def test_a_withholding_that_was_interrupted_goes_on_with_the_next_worker(
    knowledge: Knowledge, folder: Path
) -> None:
    await bring(knowledge, folder, PUBLIC["pay.md"])
    (folder / "pay.md").write_bytes(b"---\nlabels: {hr}\n---\nx")
    await load(knowledge, folder)
    (message,) = await knowledge.stores.withdrawals.receive(limit=9, wait_s=0, visibility_timeout_s=60)
    await knowledge.stores.withdrawals.delete_many([message.receipt])
    await knowledge.work()
    assert await seen(knowledge) == set()
    status = await knowledge.status("pay")
    assert (status.state, status.live_content_hash) == (DocumentState.WITHHELD, None)


async def test_many_withheld_documents_are_no_lost_index(knowledge: Knowledge, folder: Path) -> None:
    await knowledge.know(*(document(f"d{number}") for number in range(5)))
    for number in range(5):
        (folder / f"d{number}.md").write_bytes(b"---\nlabels: {hr}\n---\nx")
    await load(knowledge, folder)
    await knowledge.work()
    calls = knowledge.embedder.calls
    await knowledge.work()
    assert knowledge.embedder.calls == calls
    assert await seen(knowledge) == set()


async def test_an_item_without_a_file_is_found_by_its_id(knowledge: Knowledge) -> None:
    await knowledge.know(document("pay"))
    unknown = SourceDocument(document("pay", labels=["HR"]), "")
    add = AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock)
    summary = await add([unknown], source=HANDBOOK, writer=OLGA)
    assert [one.document_id for one in summary.withheld] == ["pay"]
