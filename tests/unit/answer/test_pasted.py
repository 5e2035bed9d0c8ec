"""Layouts of pasted chats: who is named, and where a message begins."""

from __future__ import annotations

import pytest

from assistant.answer.pasted import pasted_turns

TURNS = [("mo", "hi"), ("mo", "where is my box"), ("desk", "Hello Mo, your birthday?"), ("mo", "6/1/70")]
LAYOUTS = {
    "name": "Mo: hi\nMo: where is my box\nDesk: Hello Mo, your birthday?\nMo: 6/1/70",
    "time and name": "[9:01] Mo: hi\n[9:01] Mo: where is my box\n"
    "[9:02] Desk: Hello Mo, your birthday?\n[9:04] Mo: 6/1/70",
    "name and time above": "Mo  9:01 AM\nhi\n\nMo  9:01 AM\nwhere is my box\n\nDesk  9:02 AM\n"
    "Hello Mo, your birthday?\n\nMo  9:04 AM\n6/1/70",
    "name below": "hi\nMo · 9:01\n\nwhere is my box\nMo · 9:01\n"
    "\nHello Mo, your birthday?\nDesk · 9:02\n\n6/1/70\nMo · 9:04",
    "name after": "hi (9:01 AM) Mo\nwhere is my box (9:01 AM) Mo\n"
    "Hello Mo, your birthday? (9:02 AM) Desk\n6/1/70 (9:04 AM) Mo",
    "bars": "1|Mo|9:01|hi\n2|Mo|9:01|where is my box\n3|Desk|9:02|Hello Mo, your birthday?\n4|Mo|9:04|6/1/70",
    "tabs": "9:01\tMo\thi\n9:01\tMo\twhere is my box\n9:02\tDesk\tHello Mo, your birthday?\n9:04\tMo\t6/1/70",
    "dashes": "* Mo - 9:01a - hi\n* Mo - 9:01a - where is my box\n"
    "* Desk - 9:02a - Hello Mo, your birthday?\n* Mo - 9:04a - 6/1/70",
    "csv": '"9:01","Mo","hi"\n"9:01","Mo","where is my box"\n'
    '"9:02","Desk","Hello Mo, your birthday?"\n"9:04","Mo","6/1/70"',
    "columns": "Mo 9:01  hi\nMo 9:01  where is my box\nDesk 9:02  Hello Mo, your birthday?\nMo 9:04  6/1/70",
    "one paragraph": "Mo: hi Mo: where is my box Desk: Hello Mo, your birthday? Mo: 6/1/70",
    "mail": "> From: Mo\n> Sent: 9:01\n> hi\n\n> From: Mo\n> Sent: 9:01\n> where is my box\n\n"
    "> From: Desk\n> Sent: 9:02\n> Hello Mo, your birthday?\n\n> From: Mo\n> Sent: 9:04\n> 6/1/70",
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_the_messages_of_a_chat_are_read_with_their_names(text: str) -> None:
    assert [(turn.name, turn.text) for turn in pasted_turns(text)] == TURNS


def test_marks_alone_tell_who_speaks() -> None:
    turns = pasted_turns(">> hi\n>> where is my box\n<< Hello, your birthday?\n>> 6/1/70\n<< Thank you")
    assert [turn.name for turn in turns] == [">>", ">>", "<<", ">>", "<<"]


def test_what_the_agent_adds_below_a_chat_stands_apart() -> None:
    for layout in ("name", "name and time above"):
        turns = pasted_turns(f"{LAYOUTS[layout]}\n\nwhat do I tell him?")
        assert [(turn.text, turn.is_apart) for turn in turns][-2:] == [
            ("6/1/70", False),
            ("what do I tell him?", True),
        ]


def test_blocks_without_names_are_told_apart() -> None:
    turns = pasted_turns("hi\n\nHello, your birthday?\n\n6/1/70\nwhere is my box")
    assert [turn.text for turn in turns] == ["hi", "Hello, your birthday?", "6/1/70\nwhere is my box"]
    assert {turn.name for turn in turns} == {None}


@pytest.mark.parametrize(
    "text",
    [
        "How long is the wait?",
        "Patient: Mo\nDrug: insulin\nOrder: 10045\nDose: 2",
        "the box came wet\nthe packs melted\nis it still good",
        "parcel 1\n-\nparcel 2\n-\nparcel 3",
    ],
)
def test_a_message_that_names_nobody_twice_is_no_chat(text: str) -> None:
    assert pasted_turns(text) == []
