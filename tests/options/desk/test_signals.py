"""Which events a row makes, and what is in them."""

from __future__ import annotations

from datetime import timedelta

import jsonschema
import orjson
import pytest

from assistant.answer.excerpts import fill_record
from assistant.domain.answers import (
    Act,
    AgentAct,
    AnswerRecord,
    ApprovedUse,
    Certainty,
    Sent,
    StoredAct,
    StoredSent,
    StoredVerdict,
    Verdict,
    VerdictLabel,
)
from assistant.options.desk.events import FeedbackEvent, FeedbackKind, feedback_schema
from assistant.options.desk.section import FeedbackSection
from assistant.options.desk.signals import ShownAnswer, Signal, Signals, compare
from tests.contracts import samples
from tests.options.desk.moving import QUOTE, SECRET, answered, tenant, unanswered
from tools.pages import DOCS

AT = samples.NOON + timedelta(minutes=3)
GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD, reasons=("correct", "Mrs Doe liked it"))
OPENED = Act(act_id="o1", kind=AgentAct.OPENED_SOURCE, n=2)
POSSIBLE = answered(certainty=Certainty.POSSIBLY)


def shown(record: AnswerRecord, *, is_whole: bool = True) -> ShownAnswer:
    texts = {one.mark: QUOTE if is_whole else None for one in record.excerpts}
    return ShownAnswer(record, fill_record(record, texts), is_whole=is_whole)


def of(
    stored: StoredVerdict | StoredSent | StoredAct | None,
    record: AnswerRecord,
    *,
    feedback: FeedbackSection | None = None,
    is_whole: bool = True,
    secret: bytes = SECRET,
) -> list[Signal]:
    signals = Signals(tenant(feedback), secret=secret)
    return signals.of(stored, shown(record, is_whole=is_whole))


def verdict(verdict: Verdict = GOOD) -> StoredVerdict:
    return StoredVerdict(answer_id="a1", agent="ana", at=AT, verdict=verdict)


def sent(text: str) -> StoredSent:
    return StoredSent(answer_id="a1", agent="ana", at=AT, sent=Sent(send_id="s1", text=text))


def test_an_edit_is_held_against_what_the_agent_began_with() -> None:
    record = answered(unsupported="Ask twice.")
    begun = {"lines": Sent(send_id="s", text=QUOTE, began_with="lines", lines=(0,))}
    begun["nothing"] = Sent(send_id="s", text=QUOTE, began_with="nothing")
    edits = {}
    for name, one in begun.items():
        [signal] = of(StoredSent(answer_id="a1", agent="ana", at=AT, sent=one), record)
        edits[name] = signal.event.edit and signal.event.edit.distance
    assert edits == {"lines": 0, "nothing": None}


def act(act: Act = OPENED) -> StoredAct:
    return StoredAct(answer_id="a1", agent="ana", at=AT, act=act)


def test_a_verdict_s_event_replays_the_choice_and_names_nobody() -> None:
    (signal,) = of(verdict(), answered())
    event = signal.event
    assert (event.kind, event.at, event.tenant, event.label) == (FeedbackKind.VERDICT, AT, "clinic", "good")
    assert [(one.document_id, one.position, one.score) for one in event.documents] == [
        ("refill", 1, 2.0),
        ("claims", 2, 1.0),
        ("hours", 3, 0.5),
    ]
    assert event.documents[0].features == {"bm25": 2.0}
    assert [one.is_listed for one in event.documents] == [True, True, False]
    assert [one.is_quoted for one in event.documents] == [True, False, False]
    assert {one.propensity for one in event.documents} == {1.0}
    assert event.weights == {"ranker": "ab" * 32}
    assert event.reader_labels == ("adults", "claims")
    said = event.model_dump_json()
    for private in ("ana", "How do I take it", "5 mg", "Mrs Doe", "c1"):
        assert f'"{private}' not in said
        assert private == "ana" or private not in said


def test_wrong_citations_become_their_documents() -> None:
    bad = Verdict(verdict_id="v1", label=VerdictLabel.BAD, wrong_citations=(2, 2), better_text="M12 asks.")
    (signal,) = of(verdict(bad), answered())
    assert signal.event.wrong_documents == ("claims",)
    assert signal.event.has_better_text
    assert (signal.words.question, signal.words.shown) == ("How do I take it?", QUOTE)
    assert signal.words.better_text == "M12 asks."
    assert "refill" in signal.documents


def test_the_same_act_makes_the_same_id_and_another_tenant_or_kind_another() -> None:
    first, again = of(verdict(), answered())[0].event, of(verdict(), answered(minute=5))[0].event
    assert first.event_id == again.event_id
    other = Signals(tenant(name="pharmacy"), secret=SECRET)
    assert other.of(verdict(), shown(answered()))[0].event.event_id != first.event_id
    same_id = StoredSent(answer_id="a1", agent="ana", at=AT, sent=Sent(send_id="v1", text="x"))
    assert of(same_id, answered())[0].event.event_id != first.event_id


def test_a_pseudonym_is_the_agent_s_own_and_needs_the_key() -> None:
    first = of(verdict(), answered("a1"))[0].event
    second = of(verdict(), answered("a2"))[0].event
    of_ben = of(verdict(), answered().model_copy(update={"agent": "ben"}))[0].event
    by_other_key = of(verdict(), answered(), secret=b"another key of thirty-two bytes!")[0].event
    assert first.agent == second.agent
    assert len({first.agent, of_ben.agent, by_other_key.agent, first.conversation}) == 4


@pytest.mark.parametrize(("kept", "expected"), [("It never expires.", True), ("", False)])
def test_an_unsupported_sentence_that_was_sent_is_marked(kept: str, expected: bool) -> None:
    (signal,) = of(sent(f"Take 5 mg twice a day. {kept}"), answered(unsupported="It never expires."))
    assert signal.event.unsupported_sent is expected


def test_an_offered_answer_that_was_used_is_an_event_with_its_item() -> None:
    offered = answered().model_copy(update={"offered": ApprovedUse(item_id="one", revision=2)})
    used = act(Act(act_id="u1", kind=AgentAct.OFFERED_USED))
    (signal,) = of(used, offered)
    assert (signal.event.kind, signal.event.offered) == (FeedbackKind.OFFERED_USED, "one")
    assert of(used, answered()) == [], "nothing was offered"


@pytest.mark.parametrize("kind", [AgentAct.POSSIBLY_TAKEN, AgentAct.POSSIBLY_PASSED_OVER])
def test_what_clients_of_earlier_releases_report_of_a_possible_answer_is_no_event(kind: AgentAct) -> None:
    assert of(act(Act(act_id="p", kind=kind)), POSSIBLE) == []


@pytest.mark.parametrize("record", [unanswered(), answered()], ids=["no answer", "an answer"])
def test_an_emergency_is_a_signal_of_its_own_and_no_gap(record: AnswerRecord) -> None:
    record = record.model_copy(update={"red_flags": ("self_harm",)})
    (signal,) = of(None, record)
    assert (signal.event.kind, record.is_gap) == (FeedbackKind.EMERGENCY, False)


def test_an_answer_whose_documents_differ_is_a_signal() -> None:
    record = answered().model_copy(update={"differing": ("north", "south")})
    (signal,) = of(None, record)
    assert signal.event.kind is FeedbackKind.DIFFERENT_VALUES


def test_a_tenant_s_switches_leave_kinds_out() -> None:
    off = FeedbackSection(edits=False, opened_sources=False)
    assert of(act(), answered(), feedback=off) == []
    (signal,) = of(sent("Take 10 mg twice a day."), answered(), feedback=off)
    assert (signal.event.kind, signal.event.edit) == (FeedbackKind.SENT, None)
    assert signal.words.sent is None


def test_a_sent_text_is_not_compared_with_what_is_gone() -> None:
    (signal,) = of(sent("Take 10 mg twice a day."), answered(), is_whole=False)
    assert signal.event.edit is None
    assert signal.words.shown == ""


def is_valid(event: FeedbackEvent, **changed: object) -> bool:
    line = orjson.loads(event.model_dump_json()) | changed
    return jsonschema.Draft202012Validator(orjson.loads(feedback_schema())).is_valid(line)


def test_the_published_schema_is_up_to_date() -> None:
    assert (DOCS / "feedback.schema.json").read_bytes() == feedback_schema(), "python -m tools.pages schemas"


def test_events_fit_the_schema() -> None:
    events = [
        *(signal.event for signal in of(verdict(), answered())),
        *(signal.event for signal in of(sent("Take 10 mg."), answered())),
        of(verdict(), answered())[0].event,
    ]
    assert len(events) == 3
    assert all(is_valid(event) for event in events)


@pytest.mark.parametrize(
    "changed",
    [{"schema_version": 2}, {"kind": "guess"}, {"agent": "ana"}, {"question": "When?"}, {"answer_id": "a b"}],
)
def test_what_a_reader_refuses_does_not_fit(changed: dict[str, object]) -> None:
    assert not is_valid(of(verdict(), answered())[0].event, **changed)


SHOWN = "Take 5 mg twice a day. Do **not** take it with alcohol. Come on May 3 [1]. Use form RX100."


def test_the_distance_is_in_words_and_to_the_nearest_text() -> None:
    edit = compare(["Come on day 24.", "Something else entirely, at length."], "Come by on day 24.")
    assert (edit.distance, edit.words) == (1, 5)


@pytest.mark.parametrize(
    ("sent", "changed"),
    [
        ("Take 10 mg twice a day.", ("dose",)),
        ("Take 5 mg three times a day.", ("dose",)),
        ("Do take it with alcohol.", ("negation",)),
        ("Come on May 4.", ("date",)),
        ("Use form RX200.", ("code",)),
        ("Take 10 mg twice a day. Come on June 3.", ("date", "dose")),
        ("Please take 5 mg twice a day.", ()),
        ("Take 5 mg twice a day.", ()),
        ("Call us at 555 0100 if anything is unclear to you.", ()),
    ],
)
def test_a_changed_fact_has_its_kind(sent: str, changed: tuple[str, ...]) -> None:
    assert compare([SHOWN], sent).changed_facts == changed


@pytest.mark.parametrize(
    ("shown", "sent", "kind"),
    [
        ("Wait 24 days.", "Wait 23 days.", "number"),
        ("Call 555-010-0199 today.", "Call 555-010-0198 today.", "number"),
        ("We call back on Monday.", "We call back on Tuesday.", "date"),
        ("It arrives on 2026-05-03.", "It arrives on 2026-05-04.", "date"),
        ("It arrives on 5/3/2026.", "It arrives on 3/5/2026.", "date"),
        ("We open at 9:00 each day.", "We open at 10:00 each day.", "date"),
        ("We open at 9:00 a.m. each day.", "We open at 10 a.m. each day.", "date"),
        ("We open at noon each day.", "We open at 1 pm each day.", "date"),
        ("We are here from 8 to 5 p.m.", "We are here from 9 to 5 p.m.", "number"),
        ("Take 2 tablets at 8 a.m.", "Take 3 tablets at 8 a.m.", "dose"),
    ],
)
def test_a_changed_number_or_day_is_a_changed_fact(shown: str, sent: str, kind: str) -> None:
    assert compare([shown], sent).changed_facts == (kind,)


@pytest.mark.parametrize(
    "sent", ["Come on 3rd of May at noon.", "Come on 05/03 at 12 p.m.", "Come on May 3 at 12:00."]
)
def test_another_spelling_of_a_date_or_time_is_no_changed_fact(sent: str) -> None:
    assert compare(["Come on May 3 at noon."], sent).changed_facts == ()
