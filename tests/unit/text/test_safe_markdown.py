"""No active content comes out, as a renderer and a finder of links judge it; harmless text stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assistant.text.safe_markdown import inert, safe_markdown
from tests.attacks.active_content import active_content, hidden_content
from tests.stage.growth import MOST_GROWTH, growth

PAGE = "https://procedures.example/refill"
PASSAGE = "/v1/documents/wait?token=abc.def"
ALLOWED = (PAGE, PASSAGE)
LONGEST = 100_000


def cleaned(markdown: str) -> str:
    return safe_markdown(markdown, allowed_urls=ALLOWED)


def found_in(markdown: str) -> list[str]:
    return active_content(markdown, allowed_urls=ALLOWED)


CASES = [
    orjson.loads(line) for line in Path(__file__).with_name("safe_markdown.jsonl").read_bytes().splitlines()
]
HARMLESS = [case["text"] for case in CASES if case["left"] == case["text"]]
HOSTILE = [(case["text"], case["left"]) for case in CASES if case["left"] != case["text"]]
"""What is left of each; None where only the judge says whether it is active."""


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert safe_markdown(text, allowed_urls=ALLOWED) == text


@pytest.mark.parametrize(("text", "expected"), HOSTILE, ids=[text[:40] for text, _ in HOSTILE])
def test_what_is_active_goes_and_its_text_stays(text: str, expected: str | None) -> None:
    cleaned = safe_markdown(text, allowed_urls=ALLOWED)
    assert not found_in(cleaned)
    if expected is not None:
        assert cleaned == expected


def test_the_judge_finds_what_the_hostile_texts_hold() -> None:
    unseen = [text for text, expected in HOSTILE if expected is None and not found_in(text)]
    assert len(unseen) <= 6, "halves of constructs and hidden characters alone are not seen by a renderer"


def test_an_address_that_holds_markdown_of_its_own_is_not_allowed() -> None:
    listed = "https://procedures.example/)![x](https://evil.example/q"
    cleaned = safe_markdown(f"[a]({listed}) and {listed}", allowed_urls=[listed])
    assert "evil" not in cleaned


MARKS = "[]()<>!:/\\.&;#`*_~|\"'@?=-+% \n\t\u200b\u00ad\u3002\uff0e\uff1a\uff0f\uff1c\uff1e\u2028\x00\r"
FRAGMENTS = """
a b com evil www http https javascript java script data text/html, mailto img src href onerror svg style 1 10
&lt; &gt; &#106; &colon; &Tab; &#x2f; %3A %2F %2E .com :// // ![ ]( ][ ]: <!-- --> </ <a <b> </b>
[a](b) ![a](b)
[r]:x evil.com http://e.co/x 1.2.3.4 x@y.zz word 1.5
"""
PIECES = st.sampled_from([*MARKS, *FRAGMENTS.split(), f"[a]({PAGE})", PAGE, PASSAGE])
TEXTS = st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(max_size=60))


@given(TEXTS)
@example("[a](<b>c)")
@example("<<<<<<b>b>b>b>b>b>")
@example("[a]&#58; javascript:x")
@example("\u3002//&#106;")
@example("\u3002a.com")
@example("evil.com..")
@example("evil.com.-")
@example("%3A.com")
@example("_[_//_")
def test_no_text_comes_out_active_and_a_second_pass_changes_nothing(text: str) -> None:
    cleaned = safe_markdown(text, allowed_urls=ALLOWED)
    assert not found_in(cleaned)
    assert safe_markdown(cleaned, allowed_urls=ALLOWED) == cleaned


@given(st.lists(TEXTS, max_size=4), st.sampled_from([" ", "\n", "\n\n", "\n- "]))
def test_sentences_cleaned_apart_are_not_active_together(texts: list[str], between: str) -> None:
    cleaned = [safe_markdown(text, allowed_urls=ALLOWED) for text in texts]
    assert not found_in(between.join(cleaned))


LINKS = ["[", "](", "![", "[a](", "[[]", "[a](b ", "[a][", "[a]((", "\n[a]:", "[a](" * 300 + ")" * 300]
TAGS = ["<", "<a ", "<!--", "<script>", "&#106;", "\\["]
ADDRESSES = ["http://", "a.", "a@", "x:", "%3A", "a.com ", "www.", "//", ")" * 50 + "http://"]


@pytest.mark.parametrize("piece", [*LINKS, *TAGS, *ADDRESSES], ids=lambda piece: piece[:10].strip())
def test_a_repeated_piece_is_cleaned_in_linear_time(piece: str) -> None:
    assert growth(cleaned, lambda size: piece * (size // len(piece)), longest=LONGEST) <= MOST_GROWTH


CONSTRUCTS: dict[str, Callable[[int], str]] = {
    "an address": lambda size: "http://" + "." * size,
    "a link": lambda size: "[a](" + " " * size + ")",
    "a scheme": lambda size: "a" * size + "://x",
}


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_one_long_construct_is_cleaned_in_linear_time(name: str) -> None:
    assert growth(cleaned, CONSTRUCTS[name], longest=LONGEST) <= MOST_GROWTH


URL = "https://docs.example/a"


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.example/x.png)",
        "![x][y] [y]: https://evil.example/x.png",
        "[click](javascript:alert(1))",
        "[x]: https://evil.example 'x'",
        "<img src=https://evil.example/x onerror=alert(1)>",
        "<https://evil.example/x> <!-- hidden --> <?x?> </p>",
    ],
)
def test_stored_text_begins_no_tag_link_or_image(text: str) -> None:
    shown = inert(text)
    assert hidden_content(shown) == []
    assert len(shown) == len(text)
    assert shown.translate({0x2039: "<", 0xFF3D: "]"}) == text


@pytest.mark.parametrize(
    "text",
    [
        "Sign in at https://pay.example/a or pay.example.",
        "x < 5 mg & y > 3 [1] *a* `b` (see [a])",
        f"[a]({URL}) <{URL}>",
    ],
)
def test_other_stored_text_and_links_to_listed_sources_stay(text: str) -> None:
    assert inert(text, listed_urls=[URL]) == text
