"""Results by their texts are kept, and forgotten together."""

from __future__ import annotations

from assistant.text.caches import forget_texts, remember_texts, remembered


def test_results_are_kept_until_all_are_forgotten() -> None:
    asked: list[str] = []

    @remember_texts(2)
    def length(text: str) -> int:
        asked.append(text)
        return len(text)

    assert (length("ab"), length("ab"), asked) == (2, 2, ["ab"])
    assert remembered() > 0
    forget_texts()
    assert (remembered(), length("ab"), asked) == (0, 2, ["ab", "ab"])
