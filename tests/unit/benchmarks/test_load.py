"""The load's verdict on an answer: right to the last character, with its citations, or what is wrong."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from benchmarks.load import Answer
from benchmarks.stand_in import document

NUMBER = 3
LINES = document(NUMBER).splitlines()[2:4]
WRITTEN = " ".join(f"{line[:-1]} [1.{place}]." for place, line in enumerate(LINES, start=1))


def sentence(place: int, **other: Any) -> dict[str, Any]:
    text, stored = " ".join(LINES), document(NUMBER)
    begins, cited = text.index(LINES[place]), stored.index(LINES[place])
    unit = {"n": 1, "start": cited, "end": cited + len(LINES[place])}
    return {"start": begins, "end": begins + len(LINES[place]), "cited": [unit]} | other


def answer(*events: tuple[str, Any], status: int = 200) -> Answer:
    body = b"".join(b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data)) for name, data in events)
    return Answer(NUMBER, status=status, body=body)


TOKENS = ("token", {"text": LINES[0]}), ("token", {"text": f" {LINES[1]}"})
SENTENCES = ("sentence", sentence(0)), ("sentence", sentence(1))
DONE = ("done", {})


def test_an_answer_as_the_stand_in_wrote_it_is_right() -> None:
    assert answer(*TOKENS, *SENTENCES, DONE).fault(WRITTEN, cites=True) == ""


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (answer(status=500), "status 500"),
        (answer(), "no event"),
        (answer(*TOKENS, *SENTENCES), "ended with sentence"),
        (answer(*TOKENS, ("error", {"code": "late"})), "ended with error late"),
        (answer(TOKENS[0], *SENTENCES, DONE), "another text"),
        (answer(*TOKENS, DONE), "another citation"),
        (answer(*TOKENS, SENTENCES[0], ("sentence", sentence(1, cited=[])), DONE), "another citation"),
        (
            answer(*TOKENS, SENTENCES[0], ("sentence", sentence(1) | {"cited": sentence(0)["cited"]}), DONE),
            "another citation",
        ),
    ],
)
def test_what_is_wrong_is_named(wrong: Answer, fault: str) -> None:
    assert wrong.fault(WRITTEN, cites=True) == fault
