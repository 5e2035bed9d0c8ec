from __future__ import annotations

import pytest

from assistant.cli.answer_view import MarkedText
from assistant.text.language import SentenceSplitter


def marked(pieces: list[str]) -> str:
    """Show pieces as the service sends them: a sentence right after the piece that made its end certain."""
    splitter, text, shown = SentenceSplitter(), MarkedText(), ""
    for piece in pieces:
        shown += text.take(piece)
        for span in splitter.push(piece):
            shown += text.take_sentence(span.end) + "|"
    for span in splitter.flush():
        shown += text.take_sentence(span.end) + "|"
    return shown + text.take_rest()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Call the plan. Then wait.", "Call the plan.| Then wait.|"),
        ("First:\nsecond. Third", "First:|\nsecond.| Third|"),
        ("Take 2.5 mg, e.g. at noon. Rest!", "Take 2.5 mg, e.g. at noon.| Rest!|"),
        ('He said "stop." Then went.\n\nEnd.', 'He said "stop."| Then went.|\n\nEnd.|'),
        ("See www.example.org. Yes? No…", "See www.example.org.| Yes?| No…|"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_marks_stand_behind_sentences_however_the_text_is_cut(text: str, expected: str, size: int) -> None:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert marked(pieces) == expected


def test_text_without_an_end_is_shown_at_once() -> None:
    text = MarkedText()
    assert text.take("Call the") == "Call the"
    assert text.take(" plan") == " plan"


def test_what_turned_out_to_be_no_end_is_shown_with_the_next_piece() -> None:
    text = MarkedText()
    assert text.take("Take 2.") == "Take 2."
    assert text.take("5 mg") == ""
    assert text.take(" twice") == "5 mg twice"
