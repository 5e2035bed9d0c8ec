"""Files below a folder that restricts them, under other spellings of its name: none of them gets what other
folders give."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.documents.files import SourceDocument, SourceItem, read_sources
from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSource, KnowledgeSources, Writer
from assistant.documents.uploads import checked_path
from assistant.domain.documents import Document
from assistant.domain.errors import AssistantError, DocumentInvalidError
from assistant.domain.paths import folder_of
from assistant.tenant.tenant import SourceEntry, TenantConfig
from tests.stage.running_service import RunningService, Scene, running_service
from tests.unit.documents.scene import Knowledge

FOLDERS = {"": (), "pay": ("hr",), "pay/open": (), "Gehälter": ("hr",)}
ENTRY = SourceEntry(name="open", access="folder", folders=FOLDERS)
SOURCES = KnowledgeSources.of(
    TenantConfig(
        schema_version=1,
        name="clinic",
        display_name="Clinic",
        labels=("hr",),
        sources=(SourceEntry(name="all", namespace="", access="everyone"), ENTRY),
    )
)
SIGNS = "\u200b\u200d\ufeff\u00ad\u2060\u034f\ufe0f\u3164\u202e\u0007"
_STEPS = (
    str.upper,
    str.title,
    lambda name: unicodedata.normalize("NFD", name),
    lambda name: "".join(chr(ord(each) + 0xFEE0) if "a" <= each <= "z" else each for each in name),
    lambda name: f"{name}.",
    lambda name: f"{name} ",
    lambda name: f" {name}",
    lambda name: f"./{name}",
    lambda name: f"/{name}",
    lambda name: f"x/../{name}",
    lambda name: f"{name}/.",
    lambda name: f"{name}/open/..",
    lambda name: f"{name}/",
)


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """Draw a path of a file below ``pay`` or ``Gehälter`` that does not begin with its name as declared."""
    folder = draw(st.sampled_from(["pay", "Gehälter"]))
    name = folder
    for step in draw(st.lists(st.sampled_from(_STEPS), max_size=3)):
        name = step(name)
    for sign in draw(st.lists(st.sampled_from(SIGNS), max_size=2)):
        at = draw(st.integers(0, len(name)))
        name = name[:at] + sign + name[at:]
    return f"{name}{draw(st.sampled_from(['/', chr(92)]))}salaries.md"


def labels_of(item: SourceItem) -> tuple[str, ...] | None:
    """Return the labels that a document gets; None where it is refused."""
    if not isinstance(item, SourceDocument):
        return None
    try:
        return SOURCES.named("open").as_tenant_document(item).labels
    except DocumentInvalidError:
        return None


def document(path: str) -> SourceDocument:
    fields = {"document_id": "salaries", "title": "T", "content": "C", "media_type": "text/plain"}
    return SourceDocument(Document.model_validate(fields), path)


def test_the_declared_spelling_gets_its_folder_s_labels() -> None:
    for path, labels in (
        ("pay/a.md", ("hr",)),
        ("Gehälter/2026/a.md", ("hr",)),
        ("pay/open/a.md", ()),
        ("pays/a.md", ()),
        ("a.md", ()),
        ("", ()),
    ):
        assert labels_of(document(path)) == labels, path


@pytest.mark.parametrize(
    "path", ["p\u0430y/a.md", "pay\u2215a.md", "pay\u29f82026/a.md", "other/p\u0430y/a.md"]
)
def test_a_folder_of_look_alike_letters_or_separators_is_refused(path: str) -> None:
    assert labels_of(document(path)) is None
    assert labels_of(document("отчёты/A\u2215B.md")) == ()


@given(spellings())
def test_no_spelling_of_a_path_gets_what_other_folders_give(path: str) -> None:
    assert labels_of(document(path)) in (("hr",), None)


@given(spellings())
def test_no_spelling_of_an_uploaded_file_gets_what_other_folders_give(path: str) -> None:
    try:
        read_as = checked_path(path, 1)
    except AssistantError:
        return
    assert labels_of(document(read_as)) in (("hr",), None)


def test_a_refusal_names_the_file_and_the_folder_that_it_resembles() -> None:
    with pytest.raises(DocumentInvalidError) as refused:
        folder_of("pa\u200by/a.md", FOLDERS)
    assert "'pa\\u200by/a.md'" in refused.value.message
    assert 'resembles the declared folder "pay"' in refused.value.message
    with pytest.raises(DocumentInvalidError, match='"pay/open"'):
        folder_of("pay/Open/a.md", FOLDERS)
    with pytest.raises(DocumentInvalidError, match='"pay"'):
        folder_of("pay/../a.md", FOLDERS)


def test_a_second_spelling_is_declared_with_the_same_labels() -> None:
    folders = {**FOLDERS, "Pay": ("hr",)}
    assert SourceEntry(name="open", access="folder", folders=folders).folders == folders
    assert folder_of("Pay/a.md", folders) == "Pay"
    with pytest.raises(ValueError, match="two spellings of one folder"):
        SourceEntry(name="open", access="folder", folders={**FOLDERS, "Pay": ()})


_DISKS = count()


@pytest.mark.parametrize("name", ["Pay", "PAY", " pay", "pay.", "pa\u200by", "Geha\u0308lter", "GEHÄLTER"])
def test_no_folder_on_a_disk_gets_what_other_folders_give(tmp_path: Path, name: str) -> None:
    for folder in (name, "pay", "other"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"a{next(_DISKS)}.md").write_text("# Salaries\n\nThey are high.")
    read: Iterator[SourceItem] = read_sources([tmp_path])
    labels = {item.origin.partition("/")[0]: labels_of(item) for item in read}
    assert labels == {name: None, "pay": ("hr",), "other": ()}


@pytest.mark.parametrize(
    "key", ["Open/a.md", "OPEN/pay/a.md", "./open/a.md", "op\u200ben/a.md", "open\\a.md"]
)
def test_no_spelling_of_a_source_s_folder_of_the_inbox_is_another_source_s(key: str) -> None:
    assert SOURCES.of_key("open/a.md")[0].name == "open"
    with pytest.raises(DocumentInvalidError, match='resembles the declared folder "open"'):
        SOURCES.of_key(key)


async def test_a_path_sent_to_the_service_is_refused_by_name(tmp_path: Path) -> None:
    source = (
        '[[sources]]\nname = "open"\nnamespace = ""\naccess = "folder"\n'
        'folders = { pay = ["hr"], "Gehälter" = ["hr"], "" = [] }\n'
    )
    async with running_service(tmp_path, Scene(more_of_tenants=source)) as service:
        code, body = await _bring(service, "pay/a.md")
        assert (code, body["labels"]) == (202, ["hr"])
        for path in (
            "Pay/a.md",
            "./pay/x.md",
            "x/../pay/x.md",
            "pay\\x.md",
            "/pay/x.md",
            "Geha\u0308lter/x.md",
        ):
            code, body = await _bring(service, path)
            assert (code, body["code"]) == (422, "document_invalid"), path
            assert "resembles the declared folder" in body["detail"]


async def _bring(service: RunningService, path: str) -> tuple[int, Any]:
    document = {"document_id": "a", "title": "A", "content": "Text.", "media_type": "text/plain"}
    who = service.headers("olga", roles=["knowledge_owner"], labels=["hr"])
    response = await service.client.post("/v1/documents", params={"path": path}, json=document, headers=who)
    return response.status_code, response.json()


async def test_what_an_earlier_release_took_under_another_spelling_is_withheld_and_not_doubled(
    tmp_path: Path,
) -> None:
    knowledge = Knowledge.below(tmp_path / "stores")
    for folder in ("Pay", "pay"):
        (tmp_path / "files" / folder).mkdir(parents=True)
        (tmp_path / "files" / folder / "a.md").write_text("# Salaries\n\nThey are high.")
    before = KnowledgeSource(SourceEntry(name="open", access="everyone"), ("hr",))
    add = AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock)
    for source, counts in ((before, (2, 0, 0)), (SOURCES.named("open"), (0, 1, 1))):
        summary = await add(read_sources([tmp_path / "files"]), source=source, writer=Writer("olga"))
        await knowledge.work()
        assert (summary.added, summary.changed + summary.unchanged, len(summary.failures)) == counts
    states = {one.document_id: str(one.state) for one in await knowledge.stores.states.list()}
    assert states == {"open:Pay-a": "withheld", "open:pay-a": "live"}
    await knowledge.stores.close()
