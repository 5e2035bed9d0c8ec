"""What the stand-in's model sends, read by the product's own parsers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assistant.answering.prompt import Prompt, PromptDocument
from assistant.answering.stream import AnswerText
from assistant.aws.event_stream import ChatChunkParser, EventStreamParser
from assistant.local.gateway import ResponseCutter
from assistant.text.language import SentenceSplitter, language
from tools.load.stand_ins import AnswerFrames, framed, sse_chunk
from tools.load.workload import (
    READ_DOCUMENTS,
    VARIANTS,
    document,
    expected_text,
    first_piece,
    later_pieces,
    question,
    tag_in,
    tag_of,
    variant_of,
)

NUMBER = 4_711


def stream(tokens: int = 30, *, seed: int = 0) -> bytes:
    return b"".join(AnswerFrames(seed=seed).of(tag_of(NUMBER), tokens=tokens))


def test_the_products_parsers_read_the_expected_text():
    frames, chunks = EventStreamParser(), ChatChunkParser()
    text = "".join(map(chunks.feed, frames.feed(stream())))
    assert text == expected_text(NUMBER, tokens=30)
    assert (frames.fault, chunks.done, chunks.finish_reason) == (None, True, "stop")


def test_parts_are_cut_inside_events():
    frames, cutter = EventStreamParser(), ResponseCutter(3)
    parts = [part for _ in range(20) for part in frames.feed(framed(sse_chunk(" dose"), cutter=cutter))]
    assert b"".join(parts) == sse_chunk(" dose") * 20
    assert any(not part.endswith(b"\n\n") for part in parts)


def test_another_seed_cuts_elsewhere_and_says_the_same():
    assert stream(seed=1) != stream(seed=2)
    texts = [b"".join(EventStreamParser().feed(stream(seed=seed))) for seed in (1, 2)]
    assert texts[0] == texts[1]


def test_a_question_is_known_again_in_a_prompt():
    assert tag_in(b"passages\n\nQuestion: " + question(NUMBER).encode()) == tag_of(NUMBER)


@pytest.mark.parametrize("tokens", [10, 20, 30, 200])
def test_an_answer_has_as_many_tokens_as_asked(tokens: int):
    tag = tag_of(NUMBER)
    texts = [first_piece(tag), *later_pieces(variant_of(tag), tokens - 1)]
    assert (len(texts), "".join(texts)) == (tokens, expected_text(NUMBER, tokens=tokens))
    assert len(AnswerFrames().of(tag, tokens=tokens)) == tokens


def prompt() -> Prompt:
    documents = map(document, range(READ_DOCUMENTS))
    return Prompt(
        prompt_id="answer/4",
        prompt_hash="",
        messages=(),
        documents=tuple(
            PromptDocument(n, one, tuple(unit for passage in one.passages for unit in passage.units))
            for n, one in enumerate(documents, start=1)
        ),
        dropped_documents=0,
        history_turns=0,
        prompt_tokens=0,
        refusal="The documents do not answer this question.",
        partial="The documents do not say",
    )


def test_every_sentence_of_every_answer_is_shown():
    numbers = {variant_of(tag_of(number)): number for number in range(500)}
    assert len(numbers) == VARIANTS
    for number in numbers.values():
        text = expected_text(number)
        answer = AnswerText(prompt=replace(prompt(), given=(question(number),)), language=language("en"))
        released = [*answer.write(text), *answer.end(cut_short=False)]
        assert (answer.failure, answer.text) == (None, text), released[-1:]


def test_the_first_piece_ends_a_sentence():
    splitter = SentenceSplitter()
    assert [span.text for span in splitter.push(first_piece(tag_of(NUMBER)))] == [
        first_piece(tag_of(NUMBER))[:-2]
    ]


def test_questions_and_their_texts_are_distinct():
    assert len({question(number) for number in range(5_000)}) == 5_000
    assert len({expected_text(number) for number in range(300)}) == 300
