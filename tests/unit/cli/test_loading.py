"""A load followed to its end, over the real embedded stores and a worker that the test plays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from email.message import EmailMessage
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assistant.cli.main import app
from assistant.documents.files import SourceDocument, SourceItem
from assistant.documents.page import BESIDE_WORDS
from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSources
from assistant.domain.clock import SystemClock
from assistant.domain.documents import Document, DocumentState
from assistant.domain.errors import ConfigurationError, LocalRuntimeError
from assistant.domain.live import ElementKind
from assistant.stores.documents import KnowledgeStores
from assistant.tenant.tenant import SourceEntry, TenantConfig, load_tenant
from assistant.terminal import loading
from assistant.terminal.loading import (
    FileReading,
    LoadReport,
    SourceFolders,
    chosen_folders,
    follow,
    looks_here,
)
from assistant.terminal.terminal import GlobalOptions
from tests.stage.tenant_stores import TenantStores
from tests.unit.documents.scene import HANDBOOK, OLGA


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[KnowledgeStores]:
    tenant = TenantStores(tmp_path, embedding_model="m", dimensions=3)
    yield KnowledgeStores(tenant.documents, tenant.states, tenant.queue, tenant.withdrawals)
    await tenant.close()


def documents(*ids: str) -> list[SourceItem]:
    return [
        SourceDocument(Document(document_id=one, title=one, content=one, media_type="text/plain"), f"f:{one}")
        for one in ids
    ]


async def play_worker(
    stores: KnowledgeStores, *, ends_as: dict[str, DocumentState], hold: Sequence[str] = ()
) -> None:
    """Bring every queued document to its state; those in ``hold`` never move."""
    while True:
        for message in await stores.queue.receive(limit=10, wait_s=0.05, visibility_timeout_s=30):
            status = await stores.states.get(message.document_id)
            if status is None or message.document_id in hold:
                continue
            state = ends_as.get(message.document_id, DocumentState.LIVE)
            await stores.states.put_many([status.model_copy(update={"state": state})])


class Shown:
    def __init__(self) -> None:
        self.counts: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.counts.append((done, total))


async def run(
    stores: KnowledgeStores,
    items: list[SourceItem],
    *,
    ends_as: dict[str, DocumentState] | None = None,
    hold: Sequence[str] = (),
    alive: bool = True,
    shown: Shown | None = None,
) -> LoadReport:
    summary = await AddDocuments(stores, clock=SystemClock())(items, source=HANDBOOK, writer=OLGA)

    def check() -> None:
        if not alive:
            raise LocalRuntimeError("The service ended.")

    following = follow(summary.enqueued_ids, looks_here(stores.states), check=check, show=shown or Shown())
    worker = asyncio.create_task(play_worker(stores, ends_as=ends_as or {}, hold=hold))
    try:
        failed = await asyncio.wait_for(following, timeout=20)
    finally:
        worker.cancel()
    return LoadReport(summary, failed, seconds=0.0)


async def test_a_load_ends_when_every_document_is_live(stores: KnowledgeStores) -> None:
    shown = Shown()
    report = await run(stores, documents("a", "b", "c"), shown=shown)
    assert (report.live, report.has_failures) == (3, False)
    assert shown.counts[-1] == (3, 3)


async def test_a_document_that_fails_in_the_worker_is_reported_and_the_rest_is_live(
    stores: KnowledgeStores,
) -> None:
    report = await run(stores, documents("a", "b"), ends_as={"a": DocumentState.FAILED})
    assert [status.document_id for status in report.failed] == ["a"]
    assert (report.live, report.has_failures) == (1, True)


async def test_first_documents_that_stay_unfinished_do_not_hide_those_behind_them(
    stores: KnowledgeStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_STALLED_S", 1.0)
    monkeypatch.setattr(loading, "_WINDOW", 2)
    shown = Shown()
    with pytest.raises(LocalRuntimeError, match="The worker moved no document"):
        await run(stores, documents("a", "b", "c", "d", "e"), hold=("a", "b", "c"), shown=shown)
    assert shown.counts[-1] == (2, 5)


async def test_a_removal_ends_when_the_index_is_rid_of_the_document(
    stores: KnowledgeStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_STALLED_S", 0.3)
    await run(stores, documents("a"))
    [live] = (await stores.states.get_many(["a"])).values()
    gone = live.model_copy(update={"state": DocumentState.WITHDRAWN, "live_content_hash": "old"})
    await stores.states.put_many([gone])
    following = partial(follow, ["a"], looks_here(stores.states), check=lambda: None, show=Shown())
    with pytest.raises(LocalRuntimeError, match="moved no document"):
        await following()
    await stores.states.put_many([gone.model_copy(update={"live_content_hash": None})])
    assert await following() == ()


async def test_a_load_waits_while_other_documents_of_the_tenant_move(
    stores: KnowledgeStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_STALLED_S", 0.5)
    add = AddDocuments(stores, clock=SystemClock())
    await add(documents(*(f"a{number}" for number in range(4))), source=HANDBOOK, writer=OLGA)

    async def move_slowly() -> None:
        for name in ("a0", "a1", "a2", "a3", "own"):
            await asyncio.sleep(0.3)
            status = await stores.states.get(name)
            assert status is not None
            await stores.states.put_many([status.model_copy(update={"state": DocumentState.LIVE})])

    summary = await add(documents("own"), source=HANDBOOK, writer=OLGA)
    moving = asyncio.create_task(move_slowly())
    assert (
        await follow(summary.enqueued_ids, looks_here(stores.states), check=lambda: None, show=Shown()) == ()
    )
    await moving


async def test_a_worker_that_ended_is_said_so_and_the_queue_keeps_the_rest(stores: KnowledgeStores) -> None:
    with pytest.raises(LocalRuntimeError, match="The service ended"):
        await run(stores, documents("a"), hold=("a",), alive=False)
    assert await stores.queue.depth() == 1


ELEMENTS = {
    "fernhill.status": ElementKind.STATUS,
    "fernhill.stock": ElementKind.TABLE,
    "orders.status": ElementKind.STATUS,
}
NAMES = "there are fernhill.status, fernhill.stock, orders.status"


def read(folder: Path, *, names_elements: bool, elements: dict[str, ElementKind] = ELEMENTS) -> FileReading:
    entry = SourceEntry(name="steps", elements=names_elements, access="everyone")
    tenant = TenantConfig(schema_version=1, name="mine", display_name="Mine", sources=(entry,))
    reading = FileReading(elements)
    assert list(reading.items(SourceFolders(KnowledgeSources.of(tenant).named("steps"), (folder,))))
    return reading


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{{fernhill.stauts}}", f"names no live element and stays text; {NAMES}"),
        ("{{card fernhill.status}}", "stays text: fernhill.status is a status. Write {{fernhill.status}}"),
        ("{{fernhill.status}}", None),
        ("{{ table fernhill.stock }}", None),
    ],
)
def test_a_tag_that_nothing_fills_is_told_with_its_document(
    tmp_path: Path, written: str, said: str | None
) -> None:
    (tmp_path / "late.md").write_text(f"# Late\n\nRead {written}. Then read {written} again.\n")
    reading = read(tmp_path, names_elements=True)
    assert reading.remarks() == ([] if said is None else [f"late.md: {written} {said}"])


def test_only_tags_of_real_elements_are_told_of_a_source_that_may_name_none(tmp_path: Path) -> None:
    (tmp_path / "late.md").write_text("# Late\n\nWrite {{name}}, {{orders.stauts}} or {{orders.status}}.\n")
    said = 'late.md: {{orders.status}} leaves the text: the source "steps" has no elements = true'
    assert read(tmp_path, names_elements=False).remarks() == [said]


def test_parts_of_files_that_are_not_read_are_told(tmp_path: Path) -> None:
    mail = EmailMessage()
    mail["Subject"] = "Refunds"
    mail.set_content("They take five days.")
    for number in range(21):
        mail.add_attachment(b"x", maintype="application", subtype="pdf", filename=f"{number}.pdf")
    (tmp_path / "a.eml").write_bytes(bytes(mail))
    told = read(tmp_path, names_elements=True).remarks()
    assert (len(told), told[0]) == (21, "a.eml: attachment 0.pdf was not read")
    assert told[-1] == "… and 1 more parts of files that were not read"


def test_what_is_told_of_a_load_is_bounded(tmp_path: Path) -> None:
    tags = " ".join(f"{{{{orders.t{number}}}}}" for number in range(30))
    (tmp_path / "late.md").write_text(f"# Late\n\n{tags}\n")
    for number in range(8):
        (tmp_path / f"{number}.doc").write_text("a,b")
    reading = read(tmp_path, names_elements=True)
    files = "0.doc, 1.doc, 2.doc, 3.doc, 4.doc and 3 more"
    told = reading.remarks()
    assert told[0] == f"skipped, not a format that is read: {files}"
    assert (len(told), told[-1]) == (22, "… and 10 more tags that nothing fills")
    assert (len(reading.skipped), len(reading.tags)) == (8, 30)


def test_a_check_says_what_a_load_would_do_by_kind(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "mine.toml").write_text(
        'schema_version = 1\nname = "mine"\ndisplay_name = "Mine"\nlabels = ["hr"]\n'
        '[[sources]]\nname = "notes"\naccess = "everyone"\n'
    )
    notes = tmp_path / "notes"
    for name, content in {
        "a.md": "# A\n\nTwelve letters",
        "b.md": "---\naudience: hr\n---\nText.",
        "c.md": "---\nwithdrawn: true\n---\n",
        "d.jsonl": '{"id": "d", "question": "Q?", "answer": "A."}\nno line\n{"id": "h", "withdrawn": true}\n',
        "e/plan.xyz": "x",
        "e/Makefile": "x",
        "f.md": "{% include nav.html %}",
        "g.html": "<title>Menu</title><nav>Home</nav>",
    }.items():
        (notes / name).parent.mkdir(parents=True, exist_ok=True)
        (notes / name).write_text(content)
    arguments = ["--tenants", str(tmp_path / "tenants"), "--state", str(tmp_path / "state")]
    command = ["knowledge", "add", "--dry-run", "--tenant", "mine", str(notes)]
    told = CliRunner().invoke(app, [*arguments, "--json", *command])
    assert told.exit_code == 0, told.output
    checked = json.loads(told.output)
    assert checked["kinds"] == {
        ".md": {"read": 1, "withdrawn": 1, "refused": 2, "skipped": 0},
        ".html": {"read": 0, "withdrawn": 0, "refused": 1, "skipped": 0},
        ".jsonl": {"read": 1, "withdrawn": 1, "refused": 1, "skipped": 0},
        ".xyz": {"read": 0, "withdrawn": 0, "refused": 0, "skipped": 1},
        "(none)": {"read": 0, "withdrawn": 0, "refused": 0, "skipped": 1},
    }
    assert checked["refused"].pop("there is no text in it") == ["f.md", "g.html"]
    assert sorted(checked["refused"].values()) == [["b.md"], ["d.jsonl:2"]]
    assert checked["characters"] == len("# A\n\nTwelve letters") + len("A.")
    assert not (tmp_path / "state").exists()
    shown = CliRunner().invoke(app, [*arguments, *command]).output
    assert "read  withdrawn  refused  skipped" in shown
    assert "about 1 min until all of them answer" in shown
    assert '"audience" is not read, and its value "hr" is a label' in shown


def test_where_folders_give_the_labels_only_whole_roots_are_read(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "mine.toml").write_text(
        'schema_version = 1\nname = "mine"\ndisplay_name = "Mine"\nlabels = ["hr", "staff"]\n'
        '[[sources]]\nname = "wiki"\naccess = "folder"\nfolders = { pay = ["hr"], "" = ["staff"] }\n'
        'paths = ["../wiki"]\n'
    )
    (tmp_path / "wiki" / "pay").mkdir(parents=True)
    (tmp_path / "wiki" / "pay" / "a.md").write_text("# A\n\nThe salary.")
    options = GlobalOptions(tmp_path / "tenants", tmp_path / "state", port=None, json=False)
    for path in (tmp_path / "wiki", tmp_path / "tenants" / ".." / "wiki"):
        assert chosen_folders(options, "mine", source="wiki", paths=[path])
    for path in (tmp_path / "wiki" / "pay", tmp_path / "wiki" / "pay" / "a.md"):
        with pytest.raises(ConfigurationError, match="come from folders below its paths"):
            chosen_folders(options, "mine", source="wiki", paths=[path])


def test_every_tag_of_the_pharmacy_s_documents_is_filled() -> None:
    root = Path(__file__).parents[3]
    tenant = load_tenant(root / "tenants" / "pharmacy.toml")
    reading = FileReading.of(tenant)
    source = KnowledgeSources.of(tenant).named("procedures")
    found = list(reading.items(SourceFolders(source, (root / "knowledge" / "pharmacy",))))
    tags = [one for one in found if isinstance(one, SourceDocument) and "{{" in one.document.content]
    assert tags
    assert [remark for remark in reading.remarks() if BESIDE_WORDS not in remark] == []


def test_what_several_files_lose_is_one_line_with_their_words(tmp_path: Path) -> None:
    for name, link in (("a", "Home"), ("b", "All our offers"), ("c", "Help")):
        page = f'<nav><a href="/">{link}</a></nav><main><h1>{name}</h1><p>It takes five days.</p></main>'
        (tmp_path / f"{name}.html").write_text(page)
    told = read(tmp_path, names_elements=True).remarks()
    assert told == ["words of menus and footers: 5 in 3 files: a.html, b.html, c.html"]


def test_keys_that_are_not_read_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\nlayout: page\n---\nText.")
    (tmp_path / "b.md").write_text("---\nlayout: page\nnav: 3\n---\nText.")
    (tmp_path / "c.html").write_text('<title>C</title><meta name="viewport" content="w"><p>Text.')
    (tmp_path / "d.jsonl").write_text(
        '{"id": "d", "question": "Q?", "answer": "A.", "focus": "F", "nav_id": 1}'
    )
    assert read(tmp_path, names_elements=False).remarks() == [
        "keys that are not read: layout (2), nav (1), nav_id (1)"
    ]
