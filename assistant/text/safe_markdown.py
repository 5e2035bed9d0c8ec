"""Removes from a model's Markdown what a client could turn into active content or use to send data elsewhere.

``safe_markdown`` removes images, raw HTML, and every link or bare address that is not in the caller's list.
The text of a link is kept, its address is removed. Other Markdown is unchanged. E-mail addresses are kept as
plain text. Stored text of documents is not changed so: where it is drawn as Markdown, ``inert`` is enough.

It does not parse Markdown, because renderers disagree: it finds each place where any of them could begin a
construct, whether the construct ends or not. Code spans are no exception, because a later sentence may open
or close them. Tags and addresses are searched in a folded form of the text (entities, backslash escapes,
percent codes and compatibility characters decoded); only the original text is edited.

The time is linear in the text's length. A pass that changed something is repeated, because a removal can join
the text around it. Text that still changes after ``MOST_PASSES`` is nested on purpose and removed completely.

No maintained library does this. markdown-it-py has no positions inside a paragraph, so it cannot keep the
rest of the text unchanged, and it takes 1 s for 100 kB of "![["; nh3 cleans HTML only.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection, Iterator

from assistant.text.language import word_set

MOST_PASSES = 8

# Characters
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_WIDE_STOP_AT_END = re.compile("(?<=[A-Za-z0-9])[\u3002\uff0e\uff61]\\Z")
"""Ends a sentence without white space after it; browsers treat it as the dot of a host name."""
_JOINER = re.compile("[\u200c\u200d]")
"""Part of emoji and of some scripts; between other letters it is invisible."""
_FOLDED = re.compile(
    r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?"
    r"|\\[!-/:-@\[-`{-~]"
    r"|%[0-9A-Fa-f]{2}"
    r"|[^\x00-\x7f]"
)
_NOTHING = re.compile(r"(?!)")
_WORDS_ONLY = re.compile(r"(?:[A-Za-z0-9 ,;'\"()\n\u2026-]|[.:?](?=[ \n\"')\u2026]|$))*")
"""Harmless text: no bracket, no slash, and no full stop or colon inside a word. Most sentences match; the
full check takes ten times as long."""
_DECODED_PERCENT = re.compile(r"[A-Za-z0-9:/.@?#&=_-]")
_UNSEEN_MARKS = re.compile("[\ufe00-\ufe0f\u200c\u200d]")
_DOTS = frozenset("\u3002\uff61")
"""Browsers treat them as a full stop in a host name; NFKC folds the similar ones."""

# Tags
_TAG_NAMES = word_set("html_tags")
"""HTML's elements, and tags of prompts."""
_PLACEHOLDER = re.compile(r"[A-Za-z][A-Za-z0-9' -]{0,60}")
"""A placeholder for the reader to fill in: "<patient name>"."""
_HIDING = re.compile(
    r"(script|style|iframe|noscript|template|textarea|xmp|object|svg|math)(?![\w-])", re.IGNORECASE
)
"""Elements whose content is not text for a reader."""
_NO_LESS = re.compile("[^<]")
_MAY_FOLLOW_LESS = re.compile(r"[\s\d=.$\-+]")
_LESS, _GREATER = "\u2039", "\u203a"
"""Look-alikes of the angle brackets."""

# Links
_BRACKET = re.compile(r"[\[\]()]")
_DESTINATION = re.compile(
    r"(?:<(?P<angled>[^<>\n]*)>|(?P<plain>[^\s<>]*))(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?"
)
_LONGEST_TAIL = 2_100
"""Characters of a link's address and title."""
_REFERENCE = re.compile(r"\S{0,60}")
_LINE_START = re.compile(r"[ \t>*+\-\d.)]*")
_LONGEST_LINE_START = 60
_DEFINITION = re.compile(
    r":[ \t]*\n?[ \t]*(?:<[^<>\n]*>|[^\s<]\S*)"
    r"(?:[ \t]*\n?[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'|\([^()\n]*\)))?[ \t]*(?=\n|\Z)"
)

# Addresses
_OF_ADDRESS = re.compile(r"[:/\\.<@?#]")
_SAFE_URL = re.compile(
    r"\A(?:(?:https?://)?[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?(?=[/?#]|\Z)|/(?![/\\]))[A-Za-z0-9._~%!$&'*+,;=:@/?#-]*"
)
"""An allowed address may come from a document: one that contains Markdown or HTML is not kept."""
_SCHEMES = (
    "javascript|vbscript|livescript|https?|ftps?|wss?|mailto|xmpp|sips?|skype|callto|facetime|whatsapp|"
    "msteams|zoommtg|vscode|ms-[a-z-]+|search-ms|magnet|blob|filesystem|view-source|mhtml|ldaps?|smb"
)
"""Removed where text follows at once. Before "//" any scheme is removed. Others ("Tel:555-0100") are
addresses only as the target of a link, and every target that is not listed is removed."""
_SPACED = "|".join(r"\s{0,3}".join(name) for name in ("javascript", "vbscript"))
_MEDIA = r"(?:text|image|application|audio|video|font|message|model|multipart)/[a-z0-9.+-]{1,80}\s{0,3}[;,]"
# Beside each group: what it finds | what it does not.
_ADDRESS = re.compile(
    # "java script :" | "javascript is"
    rf"(?P<spaced>(?<![a-z0-9])(?:{_SPACED})\s{{0,3}}:)"
    # "data:text/html," and "d a t a:;" | "data: three items"
    rf"|(?P<data>(?<![a-z0-9])d\s?a\s?t\s?a\s{{0,3}}:(?:\s{{0,3}}{_MEDIA}|[;,%]|\S{{0,80}}base64))"
    # "mailto:" before "a@b" | "mailto: a@b"
    rf"|(?P<scheme>(?<![a-z0-9])(?:{_SCHEMES}):(?=\S))"
    # "odd+scheme://" and "://" | "a:/b"
    r"|(?P<slashed>(?:(?<![a-z0-9+.-])[a-z0-9+.-]{1,63})?:[/\\]{2,})"
    # "//" before "host/path" | "and//or"
    r"|(?P<relative>(?<![^\W_])(?<![:/\\])[/\\]{2,}(?=[\w\[]))"
    # "www." and "www2." before "x" | "awww.x", which is a host
    r"|(?P<www>(?<![^\W_])www\d{0,3}\.(?=[^\s.]))"
    # "shop.example", "a.b@c.example" | "end. Next"
    r"|(?P<host>(?<![\w@+-])(?<![\w@+-]\.)[\w@+-]+(?:\.[\w@+-]+)+)",
    re.IGNORECASE,
)
_REST = re.compile(r"[/\\]*(?:\[[0-9a-f:.%]*\])?[^\s<>\"`|\[\]{}]*", re.IGNORECASE)
_PORT_OR_PATH = re.compile(r"\.?(?::\d|[/\\?#][^\s.,;:!?)])")
_BARE = re.compile(r"[\w.-]{1,253}+(?![@+]|:\d|[/\\?#][^\s.,;:!?)])")
"""The name of a host without a user, port or path. It has at most 253 characters (RFC 1035)."""
_AFTER_ADDRESS = frozenset(".,;:!?'*_~)\u2019\u201d\u2026")
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_ENDINGS = word_set("host_endings")
"""A bare host gets a space before its ending: "login.gov", "the label.It" and "notes.md" stay readable, and
no client turns them into a link. With a port or path it is removed, like every address."""
_WRAPPERS = dict(zip("(\"'`*_~\u201c", ")\"'`*_~\u201d", strict=True))

_Edit = tuple[int, int, str]
"""(start, end, replacement) in the folded text."""


def safe_markdown(text: str, *, allowed_urls: Collection[str]) -> str:
    """Return the text without active content and without addresses that are not in ``allowed_urls``.

    ``text`` is one or more whole sentences or blocks: it may be cut only where white space follows. Allowed
    addresses are compared character by character. The function is idempotent.
    """
    if _WORDS_ONLY.fullmatch(text):
        return text
    urls = frozenset(url for url in allowed_urls if _SAFE_URL.fullmatch(url))
    for _ in range(MOST_PASSES):
        cleaned = _without_invisible(text)
        cleaned = _Cleaning(cleaned, _Folded(cleaned), urls).cleaned()
        if _FOLDED.search(cleaned):  # a client that decodes nothing reads other addresses: "%3A.com"
            cleaned = _Cleaning(cleaned, _Folded(cleaned, pattern=_NOTHING), urls).cleaned()
        if cleaned == text:
            return text
        text = cleaned
    return ""


_WORD = re.compile(r"[^\s<>\"'()\[\]{}|`\u201c\u201d]+")


def addresses_in(text: str) -> frozenset[str]:
    """Return the words of a text that may be addresses, with or without a scheme, as ``allowed_urls``."""
    words = (word.rstrip(".,;:!?") for word in _WORD.findall(text) if "." in word)
    return frozenset(word for word in words if word[:1] != "/" and _SAFE_URL.fullmatch(word))


_ACTIVE = re.compile(r"<(?=[A-Za-z/!?])|\](?=[(\[:])")


def inert(text: str, *, listed_urls: Collection[str] = ()) -> str:
    """Return stored text for a place that is drawn as Markdown: it begins no tag, link or image there.

    Each bracket that could is replaced by its look-alike, but for those of links to ``listed_urls``; every
    other character, addresses included, stays, and so does the length.
    """

    def replaced(found: re.Match[str]) -> str:
        opening, closing = ("(", ")") if found[0] == "]" else ("", ">")
        if any(text.startswith(f"{opening}{url}{closing}", found.end()) for url in listed_urls):
            return found[0]
        return "\N{FULLWIDTH RIGHT SQUARE BRACKET}" if found[0] == "]" else _LESS

    return _ACTIVE.sub(replaced, text)


def _without_invisible(text: str) -> str:
    if _CONTROL.search(text):
        text = _CONTROL.sub(" ", text.replace("\r\n", "\n"))
    if text.isascii():
        return text
    text = _WIDE_STOP_AT_END.sub(r"\g<0> ", _INVISIBLE.sub("", text))
    return _JOINER.sub(lambda joiner: joiner[0] if _joins(text, joiner.start()) else "", text)


def _joins(text: str, at: int) -> bool:
    around = text[at - 1 : at] + text[at + 1 : at + 2]
    return len(around) == 2 and not any(map(str.isascii, around))


class _Folded:
    """The text as a lenient client decodes it, with the position of each character in the original."""

    def __init__(self, original: str, *, pattern: re.Pattern[str] = _FOLDED) -> None:
        self._spans: list[tuple[int, int]] = []
        """[start, end) in the original by character, and of the text's end; empty where nothing is folded."""
        parts: list[str] = []
        at = 0
        for found in pattern.finditer(original):
            folded = _fold(found[0])
            if folded == found[0]:
                continue
            parts += (original[at : found.start()], folded)
            self._spans += zip(range(at, found.start()), range(at + 1, found.start() + 1), strict=True)
            self._spans += [found.span()] * len(folded)
            at = found.end()
        if parts:
            self._spans += ((place, place + 1) for place in range(at, len(original) + 1))
        self.text = "".join([*parts, original[at:]])

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return [start, end) of the folded text in the original; a folded run is never cut."""
        if not self._spans:
            return start, end
        first = self._spans[start][0]
        return first, self._spans[end - 1][1] if end > start else first


def _fold(piece: str) -> str:
    if piece[0] == "&":
        return unicodedata.normalize("NFKC", _without_invisible(html.unescape(piece)))
    if piece[0] == "\\":
        return piece[1]
    if piece[0] == "%":
        decoded = chr(int(piece[1:], 16))
        return decoded if _DECODED_PERCENT.fullmatch(decoded) else piece
    if piece in _DOTS:
        return "."
    return "" if _UNSEEN_MARKS.fullmatch(piece) else unicodedata.normalize("NFKC", piece)


class _Cleaning:
    """One pass over one text."""

    def __init__(self, original: str, folded: _Folded, allowed_urls: frozenset[str]) -> None:
        self._original = original
        self._allowed = allowed_urls
        self._longest_allowed = 3 * max(map(len, allowed_urls), default=0)
        """In folded or original characters: a percent code has three."""
        self._folded = folded
        self._text = folded.text
        self._kept: list[tuple[int, int]] = []
        """[start, end) of the ends "](…)" of links that are kept: ``_brackets`` adds them, and ``_addresses``
        leaves the addresses in them."""

    def cleaned(self) -> str:
        """Return the original with all edits. Of two overlapping edits the later one is cut or omitted."""
        edits = [*self._tags(), *self._brackets()]
        edits += self._addresses()  # after ``_brackets``, which finds the links that are kept
        parts: list[str] = []
        at = 0
        for first, last, replacement in sorted(edits):
            start, end = self._folded.place(first, last)
            if start >= at or end > at:
                parts += (self._original[at:start], replacement)
                at = end
        return "".join([*parts, self._original[at:]])

    def _is_allowed(self, start: int, end: int) -> bool:
        return end - start <= self._longest_allowed and self._original_of(start, end) in self._allowed

    def _original_of(self, start: int, end: int) -> str:
        first, last = self._folded.place(start, end)
        return self._original[first:last]

    # Tags, comments, autolinks

    def _tags(self) -> Iterator[_Edit]:
        text, at, ahead = self._text, 0, _Ahead(self._text)
        while (start := text.find("<", at)) >= 0:
            at = start + 1
            following = text[at : at + 1]
            if following and _MAY_FOLLOW_LESS.match(following):
                continue
            if following == "<":
                other = _NO_LESS.search(text, at)
                at = (other.start() if other else len(text)) - 1
                yield start, at, _LESS * (at - start)
                continue
            if text.startswith("<!--", start) and (closed := ahead.find("-->", at)) >= 0:
                at = closed + 3
                yield start, at, ""
                continue
            end, next_open = ahead.find(">", at), ahead.find("<", at)
            if not (following.isalpha() or following in "/!?|") or end < 0 or 0 <= next_open < end:
                yield start, start + 1, _LESS
                continue
            at = _end_of_hidden(text[start + 1 : end], end + 1, ahead)
            yield start, at, self._instead_of_tag(start + 1, end)

    def _instead_of_tag(self, start: int, end: int) -> str:
        inside = self._text[start:end]
        if self._is_allowed(start, end):
            return self._original_of(start, end)
        if _PLACEHOLDER.fullmatch(inside) and inside.split(maxsplit=1)[0].lower() not in _TAG_NAMES:
            return f"{_LESS}{inside}{_GREATER}"
        return ""

    # Links, images, references, definitions

    def _brackets(self) -> Iterator[_Edit]:
        text = self._text
        closing = _closing_brackets(text)
        opened: list[int] = []
        for found in _BRACKET.finditer(text):
            at = found.start()
            if found[0] == "[":
                opened.append(at)
                if text[at - 1 : at] == "!":
                    end = closing.get(at)
                    is_image = end is not None and text[end + 1 : end + 2] in ("(", "[")
                    yield (at - 1, at, "") if is_image else (at, at, " ")
            elif found[0] == "]":
                start = opened.pop() if opened else None
                following = text[at + 1 : at + 2]
                if following == "(":
                    yield from self._inline_link(start, at, closing.get(at + 1))
                elif following == "[":
                    yield from self._reference(start, at, closing.get(at + 1))
                elif following == ":" and (start is None or self._begins_line(start)):
                    yield from self._definition(start, at)

    def _inline_link(self, start: int | None, at: int, end: int | None) -> Iterator[_Edit]:
        """``start`` and ``at``: the brackets of the link's text; ``end``: the one that closes its address."""
        text = self._text
        if start is None or end is None or end - at > _LONGEST_TAIL:
            yield at + 1, at + 1, " "
            return
        inside = text[at + 2 : end]
        tail = _DESTINATION.fullmatch(inside.strip())
        if tail is None and not _DESTINATION.fullmatch(self._original_of(at + 2, end).strip()):
            yield at + 1, at + 1, " "  # a remark in brackets
            return
        if tail is not None and text[start - 1 : start] != "!" and text[start + 1 : at].strip():
            group = tail.lastgroup or 0
            first = at + 2 + len(inside) - len(inside.lstrip()) + tail.start(group)
            last = first + len(tail[group])
            if self._is_allowed(first, last):
                self._kept.append((at, end + 1))
                if (first, last) != (at + 2, end):
                    yield at, end + 1, f"]({self._original_of(first, last)})"
                return
        yield start, start + 1, ""
        yield at, end + 1, ""

    def _reference(self, start: int | None, at: int, end: int | None) -> Iterator[_Edit]:
        """Replace "[text][label]" by its text; anything too long for a label is text."""
        if start is not None and end is not None and _REFERENCE.fullmatch(self._text, at + 2, end):
            yield start, start + 1, ""
            yield at, end + 1, ""
        else:
            yield at + 1, at + 1, " "

    def _begins_line(self, at: int) -> bool:
        before = max(0, at - _LONGEST_LINE_START)
        line = self._text.rfind("\n", before, at) + 1
        return _LINE_START.fullmatch(self._text, max(line, before), at) is not None

    def _definition(self, start: int | None, at: int) -> Iterator[_Edit]:
        """Remove "[label]: address"; before other text only the brackets."""
        if start is not None:
            whole = _DEFINITION.match(self._text, at + 1, at + 1 + _LONGEST_TAIL)
            if whole and _OF_ADDRESS.search(whole[0], 1):
                yield start, whole.end(), ""
                return
            yield start, start + 1, ""
        yield at, at + 1, ""

    # Addresses

    def _addresses(self) -> Iterator[_Edit]:
        """Yield the edits of addresses that are in no link that is kept."""
        text, at = self._text, 0
        if not _OF_ADDRESS.search(text):
            return
        kept = iter([*sorted(self._kept), (len(text) + 1, len(text) + 1)])
        kept_start, kept_end = next(kept)
        while match := _ADDRESS.search(text, at):
            start = match.start()
            while kept_end <= start:
                kept_start, kept_end = next(kept)
            if start >= kept_start:
                at = kept_end
                continue
            edit, at = self._edit(match)
            if edit is not None:
                at = max(at, edit[1])
                yield edit

    def _edit(self, match: re.Match[str]) -> tuple[_Edit | None, int]:
        """Return the edit of a possible address, None where it stays, and where to look for the next one."""
        start, end = match.span()
        if match.lastgroup not in ("www", "host"):
            return self._address(start, end), self._end(end)
        if kept := self._kept_end(start, end):
            return None, kept
        if match.lastgroup == "host":
            return self._host(start, end), start + 1
        if _BARE.match(self._text, end):
            return (end, end, " "), end
        return self._address(start, end), self._end(end)

    def _kept_end(self, start: int, matched_end: int) -> int:
        """Return where the allowed address ends that begins with [start, matched_end); 0 for none."""
        limit = start + self._longest_allowed
        end = rest.end() if (rest := _REST.match(self._text, matched_end, limit)) else matched_end
        if end == limit < len(self._text):
            return 0  # cut off: longer than any allowed address
        while not (allowed := self._is_allowed(start, end)) and end > matched_end:
            if self._text[end - 1] not in _AFTER_ADDRESS:
                break
            end -= 1
        return end if allowed else 0

    def _host(self, start: int, end: int) -> _Edit | None:
        """Return the edit of a run of letters, digits and ``. _ @ + -``; None if it is no address.

        - A mail address ("a@b.org") and a word without a known ending ("e.g") stay.
        - Another word with "@" is removed ("user@b.org/path", "a@b.org@c.org").
        - An IP address, and a host with a port or path ("b.org/path"), is removed.
        - A bare host ("b.org") gets a space before its ending, and so does a number ("5.mg/day").
        """
        text = self._text
        has_path = _PORT_OR_PATH.match(text, end) is not None
        word = text[start:end].lstrip("_-+")
        start = end - len(word)
        word = word.rstrip("._-+@")
        end = start + len(word)
        name, at_sign, host = word.rpartition("@")
        if at_sign:
            is_mail = name and "@" not in name and not has_path and _host_ending(host)
            is_address = not is_mail and any(map(_host_ending, word.split("@")))
            return self._address(start, end) if is_address else None
        ending = _host_ending(word)
        if not ending:
            return None
        dot = text.rindex(".", start, end)
        is_number = ending != word and text[start:dot].replace(".", "").isdigit()  # "5.mg/day"
        if _IP.fullmatch(ending) or (has_path and not is_number):
            return self._address(start, end)
        return dot + 1, dot + 1, " "

    def _end(self, at: int) -> int:
        """Return where the address around ``at`` ends: at white space or a character that no address has."""
        rest = _REST.match(self._text, at)
        return rest.end() if rest else at

    def _address(self, start: int, matched_end: int) -> _Edit | None:
        """Return the removal of the address that begins with [start, matched_end), None when it is allowed.

        Punctuation that ends the sentence is kept, and so is a bracket that was opened before the address.
        """
        text, end = self._text, self._end(matched_end)
        unopened = text.count(")", start, end) - text.count("(", start, end)
        while not (allowed := self._is_allowed(start, end)) and end > matched_end:
            last = text[end - 1]
            if last not in _AFTER_ADDRESS or (last == ")" and unopened <= 0):
                break
            unopened -= last == ")"
            end -= 1
        return None if allowed else (*self._with_wrapping(start, end), "")

    def _with_wrapping(self, start: int, end: int) -> tuple[int, int]:
        """Add the brackets, quotes or emphasis around the address that would be left empty, and a space."""
        text = self._text
        for _ in range(4):
            if start and end < len(text) and _WRAPPERS.get(text[start - 1]) == text[end]:
                start, end = start - 1, end + 1
        after = text[end : end + 1]
        if text[start - 1 : start] == " " and text[start - 2 : start - 1].strip() and after in " \n.,;:!?)":
            start -= 1
        return start, end


def _end_of_hidden(tag: str, end: int, ahead: _Ahead) -> int:
    """Return the end of the element that the tag opens if clients hide its content; else the tag's end."""
    hiding = _HIDING.match(tag)
    closing = ahead.find(f"</{hiding[1].lower()}", end) if hiding and not tag.endswith("/") else -1
    closed = ahead.find(">", closing) if closing >= 0 else -1
    return closed + 1 if closed >= 0 else end


def _host_ending(host: str) -> str:
    """Return the last label of a possible host name, or a whole IP address; else an empty string."""
    if "." not in host:
        return ""
    if _IP.fullmatch(host):
        return host if all(int(part) < 256 for part in host.split(".")) else ""
    ending = host.rpartition(".")[2].lower()
    return ending if ending in _ENDINGS or ending.startswith("xn--") else ""


def _closing_brackets(text: str) -> dict[int, int]:
    """Return where each bracket is closed; round and square brackets are matched separately."""
    closing: dict[int, int] = {}
    round_ones: list[int] = []
    square_ones: list[int] = []
    for found in _BRACKET.finditer(text):
        bracket = found[0]
        opened = round_ones if bracket in "()" else square_ones
        if bracket in "([":
            opened.append(found.start())
        elif opened:
            closing[opened.pop()] = found.start()
    return closing


class _Ahead:
    """Finds the next position of a short string in lower case. With growing start positions it scans the text
    once."""

    def __init__(self, text: str) -> None:
        self._text = _lower(text)
        self._next: dict[str, int] = {}

    def find(self, wanted: str, at: int) -> int:
        """Return the first position at or after ``at``, in either case; else -1."""
        known = self._next.get(wanted)
        if known is None or 0 <= known < at:
            self._next[wanted] = known = self._text.find(wanted, at)
        return known


def _lower(text: str) -> str:
    """Return the text in lower case, its length unchanged."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if c.isascii() else c for c in text)
