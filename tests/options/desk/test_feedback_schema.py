"""The published schema is that of the lines which the mover writes."""

from __future__ import annotations

import jsonschema
import orjson
import pytest

from assistant.options.desk.events import FeedbackEvent, feedback_schema
from tests.options.desk import samples
from tests.options.desk.moving import answered
from tests.options.desk.test_signals import of, sent, verdict
from tools.pages import DOCS


def is_valid(event: FeedbackEvent, **changed: object) -> bool:
    line = orjson.loads(event.model_dump_json()) | changed
    return jsonschema.Draft202012Validator(orjson.loads(feedback_schema())).is_valid(line)


def test_the_published_schema_is_up_to_date() -> None:
    assert (DOCS / "feedback.schema.json").read_bytes() == feedback_schema(), "python -m tools.pages schemas"


def test_events_fit_the_schema() -> None:
    events = [
        *(signal.event for signal in of(verdict(), answered())),
        *(signal.event for signal in of(sent("Take 10 mg."), answered())),
        samples.event(),
    ]
    assert len(events) == 3
    assert all(is_valid(event) for event in events)


@pytest.mark.parametrize(
    "changed",
    [{"schema_version": 2}, {"kind": "guess"}, {"agent": "ana"}, {"question": "When?"}, {"answer_id": "a b"}],
)
def test_what_a_reader_refuses_does_not_fit(changed: dict[str, object]) -> None:
    assert not is_valid(samples.event(), **changed)
