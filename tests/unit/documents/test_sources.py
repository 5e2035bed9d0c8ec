"""Whose document an id is, who may write it, and which labels it may carry."""

from __future__ import annotations

import random
import re

import pytest

from assistant.documents.files import SourceDocument
from assistant.documents.page import Loss
from assistant.documents.sources import KnowledgeSource, KnowledgeSources, check_new_id
from assistant.domain.documents import Document
from assistant.domain.errors import DocumentInvalidError, NotFoundError, SourceNeededError
from assistant.domain.identity import Identity, Role
from assistant.tenant.tenant import SourceEntry, TenantConfig, WritersSection

LABELS = ("controlled", "hr", "staff")


def sources(*entries: SourceEntry) -> KnowledgeSources:
    return KnowledgeSources.of(
        TenantConfig(schema_version=1, name="clinic", display_name="Clinic", labels=LABELS, sources=entries)
    )


HANDBOOK = SourceEntry(name="handbook", namespace="", access="everyone")
WIKI = SourceEntry(name="wiki", labels=("hr", "staff"), access="folder", folders={"": ("hr", "staff")})
BOTH = sources(HANDBOOK, WIKI)


def owner(agent: str = "olga", *labels: str) -> Identity:
    return Identity("clinic", agent, frozenset({Role.KNOWLEDGE_OWNER}), frozenset(labels))


def document(document_id: str = "refill", **fields: object) -> Document:
    values = {"document_id": document_id, "title": "T", "content": "C", "media_type": "text/plain"}
    return Document.model_validate(values | fields)


def item(document: Document) -> SourceDocument:
    return SourceDocument(document, "")


def test_an_id_begins_with_its_source_s_namespace() -> None:
    assert BOTH.named("wiki").as_tenant_document(item(document())).document_id == "wiki:refill"
    assert BOTH.named("handbook").as_tenant_document(item(document())).document_id == "refill"


def test_a_tenant_file_without_sources_has_one_whose_ids_are_as_they_are_written() -> None:
    alone = KnowledgeSources.of(TenantConfig(schema_version=1, name="clinic", display_name="Clinic"))
    assert alone.named(None).as_tenant_document(item(document())).document_id == "refill"


@pytest.mark.parametrize(
    ("media_type", "elements", "kept"),
    [
        ("text/markdown", False, "Call […] or  at once […], not {a}."),
        ("text/html", False, "Call […] or  at once […], not {a}."),
        ("text/markdown", True, "Call {{ site.phone }} or  at once {{< figure >}}, not {a}."),
        ("text/plain", False, "Call {{ site.phone }} or {% link help.md %} at once {{< figure >}}, not {a}."),
    ],
)
def test_template_tags_leave_the_text(media_type: str, elements: bool, kept: str) -> None:
    written = "Call {{ site.phone }} or {% link help.md %} at once {{< figure >}}, not {a}."
    entry = SourceEntry(name="wiki", namespace="", access="everyone", elements=elements)
    given = item(document(content=written, media_type=media_type))
    assert sources(entry).named("wiki").as_tenant_document(given).content == kept


def test_a_statement_of_one_text_inside_a_line_leaves_its_text() -> None:
    written = (
        '{% include "nav.html" %} Ask in {% slack "travel" %}.\n- {% toc "h2" %}\n{%- fig "a", "b" %} So.'
    )
    given = item(document(content=written, media_type="text/markdown"))
    assert BOTH.named("handbook").as_tenant_document(given).content == " Ask in travel.\n- \n So."


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("[a]({% link hr/leave.md %})", "[a](/hr/leave.md)"),
        ("[a]({{ site.baseurl }}{%- link hr/leave.md -%})", "[a](/hr/leave.md)"),
        ('[a]({{< ref "../leave.md#how" >}})', "[a](../leave.md#how)"),
        ("[a]({{< relref leave.md >}})", "[a](leave.md)"),
        ("<a class=b href=\"{{ '/leave/' | relative_url }}\">a</a>", '<a class=b href="/leave/">a</a>'),
        ("[a]: {{ '/leave/' | url }}", "[a]: /leave/"),
        ("[a]({{ page.url }}/x)", "[a](/x)"),
        ("At least <%= count %> a < b={{ c }}.", "At least […] a < b=[…]."),
        ("{{< tab >}}\n| {{ a }} | {{ b }}\n# {{ title }}\nText{{% /tab %}}", "\n|  | \n# \nText"),
    ],
)
def test_a_tag_in_an_address_leaves_its_path_and_a_printed_value_a_mark(written: str, left: str) -> None:
    given = item(document(content=written, title=f"{written} b", media_type="text/markdown"))
    assert BOTH.named("handbook").as_tenant_document(given).content == left


def test_many_openings_of_template_tags_take_no_time() -> None:
    hostile = "{%" * 200_000 + "{{" * 200_000 + "<%" * 200_000 + '{% a "b" %}' * 200_000
    assert BOTH.named("handbook").as_tenant_document(item(document(content=hostile, media_type="text/html")))


@pytest.mark.parametrize("own_id", ["wiki:refill", ":refill", "refill:", "a:b:c"])
def test_no_source_can_name_another_s_document(own_id: str) -> None:
    for source in BOTH.all:
        with pytest.raises(DocumentInvalidError, match=r'contains ":"'):
            source.as_tenant_document(item(document(own_id)))


def test_an_id_that_is_too_long_with_its_namespace_is_refused() -> None:
    assert BOTH.named("handbook").as_tenant_document(item(document("x" * 256))).document_id == "x" * 256
    with pytest.raises(DocumentInvalidError, match="longer than 251"):
        BOTH.named("wiki").as_tenant_document(item(document("x" * 256)))


@pytest.mark.parametrize(
    ("document_id", "name"),
    [("wiki:refill", "wiki"), ("refill", "handbook"), ("wikipedia:x", "handbook"), ("wik", "handbook")],
)
def test_an_id_tells_its_source(document_id: str, name: str) -> None:
    found = BOTH.of_document(document_id)
    assert found is not None
    assert found.name == name


def test_an_id_without_a_namespace_is_nobody_s_where_each_source_has_one() -> None:
    assert sources(WIKI, SourceEntry(name="help", access="everyone")).of_document("refill") is None


def test_without_a_name_it_is_the_only_source_or_the_one_without_a_namespace() -> None:
    assert BOTH.named(None).name == "handbook"
    assert sources(WIKI).named(None).name == "wiki"
    with pytest.raises(SourceNeededError, match="wiki, help"):
        sources(WIKI, SourceEntry(name="help", access="everyone")).named(None)
    with pytest.raises(NotFoundError, match="handbook, wiki"):
        BOTH.named("wikki")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("Staff", 'did you mean "staff"'),
        ("stuff", 'did you mean "staff"'),
        ("no", "there are hr, staff"),
        ("controlled", "there are hr, staff"),
    ],
)
def test_a_label_outside_of_the_vocabulary_is_refused_with_the_nearest_one(label: str, said: str) -> None:
    with pytest.raises(DocumentInvalidError, match=said):
        BOTH.named("wiki").as_tenant_document(item(document(labels=[label])))


def test_a_vocabulary_that_is_empty_says_where_labels_are_written() -> None:
    source = KnowledgeSource(HANDBOOK, labels=())
    with pytest.raises(DocumentInvalidError, match="add it to labels"):
        source.as_tenant_document(item(document(labels=["hr"])))


def test_labels_of_a_document_without_a_file_are_of_the_folder_that_is_for_all() -> None:
    wiki = BOTH.named("wiki")
    assert wiki.as_tenant_document(item(document())).labels == ("hr", "staff")
    assert wiki.as_tenant_document(item(document(labels=["staff", "staff"]))).labels == ("staff",)
    with pytest.raises(DocumentInvalidError, match="its folder gives hr, staff"):
        wiki.as_tenant_document(item(document(labels=[])))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, 'access = "everyone" keeps the meaning'),
        ({"access": "folder"}, "belong together"),
        ({"access": "declared", "folders": {"a": []}}, "belong together"),
    ],
)
def test_a_source_says_where_the_labels_of_its_documents_come_from(
    fields: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        SourceEntry.model_validate({"name": "wiki", **fields})


def test_labels_without_any_source_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no \[\[sources\]\] says where documents get them"):
        TenantConfig(schema_version=1, name="clinic", display_name="Clinic", labels=("hr",))


@pytest.mark.parametrize(
    ("document_id", "said"),
    [
        ("cafe\u0301", 'is not in the form NFKC, which is "caf\u00e9"'),
        ("\uff50ay", 'is not in the form NFKC, which is "pay"'),
        ("pa\u200by", "is not in the form NFKC"),
        ("n\u03bfte", 'has letters of GREEK and LATIN in the word "n\u03bfte"'),
        ("wiki:p\u0430y-2", 'has letters of CYRILLIC and LATIN in the word "p\u0430y"'),
    ],
)
def test_a_new_id_that_could_be_taken_for_another_is_refused(document_id: str, said: str) -> None:
    with pytest.raises(DocumentInvalidError, match=re.escape(said)):
        check_new_id(document_id)


@pytest.mark.parametrize(
    "document_id",
    [
        "wiki:refill-2",
        "caf\u00e9",
        "лекарства-aspirin",
        "メタデータ入力",
        "薬局のABC",
        "한국어",
        "TNF\u03b1",
        "IL6\u03b2-\u0394x",
    ],
)
def test_a_word_of_one_script_is_an_id(document_id: str) -> None:
    check_new_id(document_id)


def test_a_source_without_writers_is_every_knowledge_owner_s() -> None:
    assert BOTH.writable_by(owner()) == BOTH.all


def test_a_source_is_written_by_named_agents_and_holders_of_a_label() -> None:
    writers = WritersSection(agents=("olga",), labels=("hr", "board"))
    among = sources(HANDBOOK, SourceEntry(name="wiki", writers=writers, access="everyone"))
    names = {
        who: [source.name for source in among.writable_by(identity)]
        for who, identity in (
            ("named", owner("olga")),
            ("holder", owner("otto", "hr")),
            ("other", owner("otto", "staff")),
        )
    }
    assert names == {"named": ["handbook", "wiki"], "holder": ["handbook", "wiki"], "other": ["handbook"]}


@pytest.mark.parametrize(
    ("key", "name", "own"),
    [
        ("wiki/a/refill.md", "wiki", "a/refill.md"),
        ("wiki.md", "handbook", "wiki.md"),
        ("desk/refill.md", "handbook", "desk/refill.md"),
        ("wiki/", "handbook", "wiki/"),
    ],
)
def test_the_first_folder_of_the_inbox_names_the_source(key: str, name: str, own: str) -> None:
    source, called = BOTH.of_key(key)
    assert (source.name, called) == (name, own)


def test_the_ranges_of_sources_part_all_ids_as_the_ids_themselves_do() -> None:
    entries = [SourceEntry(name=name, access="everyone") for name in ("a", "ab", "b", "wiki", "z")]
    among = sources(HANDBOOK, *entries)
    chance = random.Random(5)  # noqa: S311 (no secret)
    letters = ["a", "b", ":", "-", "wiki", "z", "ü", "Z", "0", "~", "\U0001f600"]
    ids = {"".join(chance.choices(letters, k=chance.randint(1, 5))) for _ in range(3000)}
    ids = {one for one in ids if not one.endswith(":")}
    for size in range(1, 6):
        chosen = chance.sample(among.all, size)
        ranges = among.ranges_of(chosen)
        for one in ids:
            inside = [r for r in ranges if one > r.after and (r.until is None or one <= r.until)]
            assert bool(inside) == (among.of_document(one) in chosen), (one, chosen)
            assert len(inside) <= 1


def test_two_sources_with_one_name_or_one_namespace_are_refused() -> None:
    with pytest.raises(ValueError, match='the name "wiki"'):
        sources(WIKI, SourceEntry(name="wiki", namespace="other", access="everyone"))
    with pytest.raises(ValueError, match='the namespace "wiki"'):
        sources(WIKI, SourceEntry(name="other", namespace="wiki", access="everyone"))
    with pytest.raises(ValueError, match='the namespace ""'):
        sources(HANDBOOK, SourceEntry(name="other", namespace="", access="everyone"))


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("labels", {"access": "everyone", "labels": ("HR",)}),
        ("folders", {"access": "folder", "folders": {"a": ("HR",)}}),
    ],
)
def test_a_source_s_labels_are_of_the_vocabulary(key: str, fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f'{key} of the source "wiki" has "HR", which is none of'):
        sources(SourceEntry.model_validate({"name": "wiki", **fields}))


def test_a_document_that_lost_too_much_waits_for_its_owner() -> None:
    handbook, careful = (
        BOTH.named("handbook"),
        SourceEntry(name="careful", access="everyone", namespace="", most_lost=0.05),
    )
    item = SourceDocument(
        document(),
        "refill.md",
        losses=(Loss("struck words", words=4), Loss("hidden rows", count=2)),
        lost_share=0.1,
    )
    assert handbook.as_tenant_document(item).document_id == "refill"
    with pytest.raises(DocumentInvalidError) as refused:
        sources(careful).named("careful").as_tenant_document(item)
    assert refused.value.message == (
        '10% of its words are not in its text (struck words: 4, hidden rows: 2), and the source "careful" '
        "takes 5% at most. Look at the file; then fix it, or raise most_lost"
    )
