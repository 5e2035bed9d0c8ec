"""What counts as an edit, a changed fact and a kept sentence."""

from __future__ import annotations

import pytest

from assistant.options.desk.signals import compare, keeps_any

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


def test_a_sentence_is_kept_whatever_its_markdown() -> None:
    assert keeps_any(["It **never** expires [2]."], "Hello. It never expires. Bye.")
    assert not keeps_any(["It **never** expires [2]."], "Hello. Bye.")
    assert not keeps_any([], "Hello.")
