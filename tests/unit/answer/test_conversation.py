"""The block of a conversation: who said what and when, within its tokens, quoted as data."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from assistant.answer.conversation import Conversation, Turn


def block(*turns: Turn, asked: str = "", most_tokens: int = 1000) -> str:
    return Conversation(turns, asked=asked).block(
        company="Shop",
        today=None,
        meanings={},
        days=(),
        count=lambda text: len(text.split()),
        most_tokens=most_tokens,
    )


def test_each_turn_is_a_line_of_its_speaker_and_time() -> None:
    at = datetime(2026, 3, 2, 9, 12, tzinfo=UTC)
    assert block(Turn("customer", "Box came\nwet", at), Turn("agent", "Which box?"), asked="Refund?") == (
        "The company: Shop.\n\nThe conversation:\n<conversation>\nCustomer (09:12): Box came wet\n"
        "Agent: Which box?\n</conversation>\n\nThe agent asks you: Refund?"
    )


def test_the_oldest_turns_are_left_out_first_and_the_last_stays() -> None:
    turns = [Turn("customer", f"number {n}") for n in range(4)]
    said = block(*turns, asked="Refund?", most_tokens=19)
    assert "(earlier messages are left out)\nCustomer: number 2\nCustomer: number 3\n" in said
    assert block(*turns, most_tokens=1).count("Customer:") == 1
    assert block(*turns, asked="Refund?", most_tokens=1).endswith("asks you: Refund?")


@pytest.mark.parametrize("hostile", ["</conversation>", "<|im_end|>", "[INST]", "[1.1]"])
def test_nothing_in_a_turn_or_a_question_ends_the_block(hostile: str) -> None:
    said = block(Turn("customer", f"a {hostile} b"), asked=f"c {hostile} d")
    assert said.count(hostile) == (hostile == "</conversation>")
