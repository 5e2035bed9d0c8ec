"""Removes from a model's Markdown what a client could turn into active content or use to send data elsewhere.

``safe_markdown`` removes images, raw HTML, and every link or bare address that is not in the caller's list.
The text of a link is kept, its address is removed. Other Markdown is unchanged. E-mail addresses are kept as
plain text. Stored text of documents is not changed in this way: where it is shown as Markdown, ``inert`` is
enough.

    safe_markdown("See [fees](https://evil.example/x) <b>now</b>.", allowed_urls=())  # "See fees now."

It does not parse Markdown, because renderers disagree: it finds each place where any of them could begin a
construct, whether the construct ends or not. Code spans are treated alike, because a later sentence may open
or close them. Tags and addresses are searched in a folded form of the text (``_Folded``: entities, backslash
escapes, percent codes and compatibility characters decoded); only the original text is edited.

A pass (``_Cleaning``) makes edits (start, end, replacement) of three kinds: tags, then brackets, then
addresses. The time is linear in the text's length. A pass that changed something is repeated, because a
removal can join the text around it. Text that still changes after ``MOST_PASSES`` is nested on purpose, and
removed completely.

No maintained library does this. markdown-it-py has no positions inside a paragraph, so it cannot keep the
rest of the text unchanged, and it takes 1 s for 100 kB of "![["; nh3 cleans HTML only.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection, Iterator

from assistant.text.language import word_set
from assistant.text.marks import CONTROL

MOST_PASSES = 8
"""Passes after which a text that still changes is removed as a whole."""

# Characters
_CONTROL = re.compile(rf"[{CONTROL}\x80-\x9f]")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
"""Characters that no reader sees, and that split a tag or an address for a search: soft hyphens, direction
marks, unpaired surrogates and others."""
_WIDE_STOP_AT_END = re.compile("(?<=[A-Za-z0-9])[\u3002\uff0e\uff61]\\Z")
"""A Chinese or Japanese full stop at the end. Browsers treat it as the dot of a host name, and the next
sentence may follow without white space: it gets a space."""
_JOINER = re.compile("[\u200c\u200d]")
"""Joiners of emoji and of some scripts. They have an effect only between two characters above ASCII
(``_joins``). Elsewhere they are invisible, and removed."""
_CODES = re.compile(
    r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?"
    r"|\\[!-/:-@\[-`{-~]"
    r"|%[0-9A-Fa-f]{2}"
    r"|[^\x00-\x7f]"
)
"""What ``_fold`` decodes: an entity "&lt;", a backslash escape, a percent code "%3A", any character above
ASCII."""
_NEVER = re.compile(r"(?!)")
_WORDS_ONLY = re.compile(r"(?:[A-Za-z0-9 ,;'\"()\n\u2026-]|[.:?](?=[ \n\"')\u2026]|$))*")
"""Harmless text: no bracket, no slash, and no full stop or colon inside a word. Most sentences match it,
which saves the full check: that takes ten times as long."""
_DECODED_PERCENT = re.compile(r"[A-Za-z0-9:/.@?#&=_-]")
"""Characters whose percent code is decoded: those that may be in an address."""
_UNSEEN_MARKS = re.compile("[\ufe00-\ufe0f\u200c\u200d]")
"""Variation selectors and joiners, which are folded to nothing: also joiners that the text keeps."""
_DOTS = frozenset("\u3002\uff61")
"""Full stops that browsers treat as the dot of a host name, and that NFKC does not fold as it folds similar
ones."""

# Tags
_TAG_NAMES = word_set("html_tags")
"""Names of HTML's elements and of tags in prompts."""
_PLACEHOLDER = re.compile(r"[A-Za-z][A-Za-z0-9' -]{0,60}")
"""A placeholder for the reader to fill in: "<patient name>"."""
_HIDING = re.compile(
    r"(script|style|iframe|noscript|template|textarea|xmp|object|svg|math)(?![\w-])", re.IGNORECASE
)
"""Begin of an element whose content readers do not see: it is removed with the tags."""
_OTHER_THAN_LESS = re.compile("[^<]")
_MAY_FOLLOW_LESS = re.compile(r"[\s\d=.$\-+]")
"""Characters after "<" with which no tag begins: "a < b", "<5 mg"."""
_LESS, _GREATER = "\u2039", "\u203a"
"""Look-alikes that replace the angle brackets of harmless text."""

# Links
_BRACKET = re.compile(r"[\[\]()]")
_DESTINATION = re.compile(
    r"(?:<(?P<angled>[^<>\n]*)>|(?P<plain>[^\s<>]*))(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?"
)
"""Address and title in the round brackets of a link: ``https://a.org "Fees"``, ``<https://a.org>``."""
_LONGEST_TAIL = 2_100
"""Characters of a link's address and title. A longer text in round brackets is text."""
_REFERENCE = re.compile(r"\S{0,60}")
"""Label of a reference: "1" in "[fees][1]"."""
_LINE_START = re.compile(r"[ \t>*+\-\d.)]*")
"""What may be before a definition on its line: quotes, bullets, numbers."""
_LONGEST_LINE_START = 60
_DEFINITION = re.compile(
    r":[ \t]*\n?[ \t]*(?:<[^<>\n]*>|[^\s<]\S*)"
    r"(?:[ \t]*\n?[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'|\([^()\n]*\)))?[ \t]*(?=\n|\Z)"
)

"""The end of a definition of a link, after "[1]": ``: https://a.org "Fees"`` up to the end of the line."""

# Addresses
_ADDRESS_SIGN = re.compile(r"[:/\\.<@?#]")
"""A sign that each address has one of: text without any is not searched."""
_SAFE_URL = re.compile(
    r"\A(?:(?:https?://)?[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?(?=[/?#]|\Z)|/(?![/\\]))[A-Za-z0-9._~%!$&'*+,;=:@/?#-]*"
)
"""Form of an address that may be allowed, with or without a scheme, or a path "/fees". Allowed addresses come
from documents: one in another form, with Markdown or HTML in it, is not kept."""
_SCHEMES = (
    "javascript|vbscript|livescript|https?|ftps?|wss?|mailto|xmpp|sips?|skype|callto|facetime|whatsapp|"
    "msteams|zoommtg|vscode|ms-[a-z-]+|search-ms|magnet|blob|filesystem|view-source|mhtml|ldaps?|smb"
)
"""Schemes that are removed if text follows at once, "mailto:a". Any scheme is removed before "//". Others, as
in "Tel:555-0100", are addresses only as the target of a link, and each target that is not allowed is
removed."""
_SPACED = "|".join(r"\s{0,3}".join(name) for name in ("javascript", "vbscript"))
"""Schemes that are found with white space in them too: "java script"."""
_MEDIA = r"(?:text|image|application|audio|video|font|message|model|multipart)/[a-z0-9.+-]{1,80}\s{0,3}[;,]"
# The media type after "data:". Above each group of _ADDRESS: what it finds | what it does not.
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
_ADDRESS_REST = re.compile(r"[/\\]*(?:\[[0-9a-f:.%]*\])?[^\s<>\"`|\[\]{}]*", re.IGNORECASE)
"""The rest of an address after a match of ``_ADDRESS``: slashes, an IPv6 host, then all up to white space."""
_PORT_OR_PATH = re.compile(r"\.?(?::\d|[/\\?#][^\s.,;:!?)])")
_BARE = re.compile(r"[\w.-]{1,253}+(?![@+]|:\d|[/\\?#][^\s.,;:!?)])")
"""The rest of a bare host's name, without a user, port or path. A name has at most 253 characters (RFC
1035)."""
_AFTER_ADDRESS = frozenset(".,;:!?'*_~)\u2019\u201d\u2026")
"""Punctuation of the sentence at the end of an address, which is not part of it."""
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_ENDINGS = word_set("host_endings")
"""Last labels of host names: com, org, md. A bare host gets a space before its ending, "login. gov", "the
label. It": it stays readable, and no client makes a link of it. With a port or path it is removed, like every
address."""
_WRAPPERS = dict(zip("(\"'`*_~\u201c", ")\"'`*_~\u201d", strict=True))

"""Closing sign by the opening one, of what may be left empty around a removed address: "(https://…)"."""

_Edit = tuple[int, int, str]
"""(start, end, replacement) in the folded text; an insertion has start = end."""


def safe_markdown(text: str, *, allowed_urls: Collection[str]) -> str:
    """Return the text without active content and without addresses that are not in ``allowed_urls``.

    ``text`` is one or more whole sentences or blocks, cut only where white space follows. Allowed addresses
    are compared character by character. A second call changes nothing.
    """
    if _WORDS_ONLY.fullmatch(text):
        return text
    urls = frozenset(url for url in allowed_urls if _SAFE_URL.fullmatch(url))
    for _ in range(MOST_PASSES):
        cleaned = _without_invisible(text)
        cleaned = _Cleaning(cleaned, _Folded(cleaned), urls).cleaned()
        # A second time, as clients see the text that decode nothing. In "%3A.com" they see the host "3A.com";
        # decoded it is ":.com", which is no address.
        if _CODES.search(cleaned):
            cleaned = _Cleaning(cleaned, _Folded(cleaned, pattern=_NEVER), urls).cleaned()
        if cleaned == text:
            return text
        text = cleaned
    return ""


_POSSIBLE_ADDRESS = re.compile(r"[^\s<>\"'()\[\]{}|`\u201c\u201d]+")


def addresses_in(text: str) -> frozenset[str]:
    """Return the words of a text that may be addresses, with or without a scheme, to pass as
    ``allowed_urls``."""
    words = (word.rstrip(".,;:!?") for word in _POSSIBLE_ADDRESS.findall(text) if "." in word)
    return frozenset(word for word in words if word[:1] != "/" and _SAFE_URL.fullmatch(word))


_ACTIVE = re.compile(r"<(?=[A-Za-z/!?])|\](?=[(\[:])")


def inert(text: str, *, listed_urls: Collection[str] = ()) -> str:
    """Return stored text so that it begins no tag, link or image where it is shown as Markdown.

    Each bracket that could begin one is replaced by a look-alike, except in links to ``listed_urls``. All
    other characters stay, addresses too, and so does the length.
    """

    def replaced(bracket: re.Match[str]) -> str:
        opening, closing = ("(", ")") if bracket[0] == "]" else ("", ">")
        if any(text.startswith(f"{opening}{url}{closing}", bracket.end()) for url in listed_urls):
            return bracket[0]
        return "\N{FULLWIDTH RIGHT SQUARE BRACKET}" if bracket[0] == "]" else _LESS

    return _ACTIVE.sub(replaced, text)


def _without_invisible(text: str) -> str:
    """Return the text without invisible characters, and with spaces for control characters."""
    if _CONTROL.search(text):
        text = _CONTROL.sub(" ", text.replace("\r\n", "\n"))
    if text.isascii():
        return text
    text = _WIDE_STOP_AT_END.sub(r"\g<0> ", _INVISIBLE.sub("", text))
    return _JOINER.sub(lambda joiner: joiner[0] if _joins(text, joiner.start()) else "", text)


def _joins(text: str, at: int) -> bool:
    """Return whether the joiner at ``at`` stands between two characters above ASCII, where it has an
    effect."""
    around = text[at - 1 : at] + text[at + 1 : at + 2]
    return len(around) == 2 and not any(map(str.isascii, around))


class _Folded:
    """The text as a lenient client decodes it, with the position of each character in the original."""

    def __init__(self, original: str, *, pattern: re.Pattern[str] = _CODES) -> None:
        self._spans: list[tuple[int, int]] = []
        """[start, end) in the original of each character of ``text``, and of its end; empty if nothing was
        folded. "a&lt;" is "a<" with the spans (0, 1), (1, 5) and (5, 6)."""
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
        """Return where [start, end) of the folded text is in the original; a code that was decoded is never
        cut."""
        if not self._spans:
            return start, end
        first = self._spans[start][0]
        return first, self._spans[end - 1][1] if end > start else first


def _fold(piece: str) -> str:
    """Return a match of ``_CODES`` as a lenient client decodes it: "<" for "&lt;"."""
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
    """One pass over one text. Methods yield edits in positions of the folded text; ``cleaned`` applies them
    once."""

    def __init__(self, original: str, folded: _Folded, allowed_urls: frozenset[str]) -> None:
        self._original = original
        self._allowed = allowed_urls
        self._longest_allowed = 3 * max(map(len, allowed_urls), default=0)
        """Longest span in the folded text that is compared with allowed addresses. Decoding makes an address
        less than three times as long: the worst is "&#65018", 7 characters that become 18."""
        self._folded = folded
        self._text = folded.text
        self._kept_links: list[tuple[int, int]] = []
        """[start, end) of "](…)" in each link that is kept. ``_brackets`` adds them while its edits are read;
        ``_addresses``, which ``cleaned`` calls after that, skips what is in them."""

    def cleaned(self) -> str:
        """Return the original with all edits, in order of their start.

        Where edits overlap, the one that starts later applies to the rest of its span, if there is a rest.
        Example: after (2, 10, "") the edit (5, 12, " ") removes [10, 12) and adds its space; the edit
        (5, 8, "x") is left out.
        """
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
        """Yield the edits of each "<": of a comment or tag the removal, with the content of elements that
        hide it; of other text a look-alike."""
        text, at, ahead = self._text, 0, _Ahead(self._text)
        while (start := text.find("<", at)) >= 0:
            at = start + 1
            following = text[at : at + 1]
            if following and _MAY_FOLLOW_LESS.match(following):
                continue
            if following == "<":
                # Replace all but the last "<" of a run, which may begin a tag, as in "<<b>".
                other = _OTHER_THAN_LESS.search(text, at)
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
        """Return the replacement of a tag, whose inside is [start, end): an allowed autolink's address, a
        placeholder between look-alikes, else nothing."""
        inside = self._text[start:end]
        if self._is_allowed(start, end):
            return self._original_of(start, end)
        if _PLACEHOLDER.fullmatch(inside) and inside.split(maxsplit=1)[0].lower() not in _TAG_NAMES:
            return f"{_LESS}{inside}{_GREATER}"
        return ""

    # Links, images, references, definitions

    def _brackets(self) -> Iterator[_Edit]:
        """Yield the edits of images "![…", and at each "]" those of a link, reference or definition that it
        may be in."""
        text = self._text
        closing = _closing_brackets(text)
        open_squares: list[int] = []
        for bracket in _BRACKET.finditer(text):
            at = bracket.start()
            if bracket[0] == "[":
                open_squares.append(at)
                if text[at - 1 : at] == "!":
                    end = closing.get(at)
                    is_image = end is not None and text[end + 1 : end + 2] in ("(", "[")
                    yield (at - 1, at, "") if is_image else (at, at, " ")
            elif bracket[0] == "]":
                start = open_squares.pop() if open_squares else None
                following = text[at + 1 : at + 2]
                if following == "(":
                    yield from self._inline_link(start, at, closing.get(at + 1))
                elif following == "[":
                    yield from self._reference(start, at, closing.get(at + 1))
                elif following == ":" and (start is None or self._begins_line(start)):
                    yield from self._definition(start, at)

    def _inline_link(self, start: int | None, at: int, end: int | None) -> Iterator[_Edit]:
        """Yield the edits of "[text](address)": none for an allowed address, else the text alone; a space
        after "]" if the round brackets have no address.

        ``start`` and ``at``: positions of "[" and "]"; ``end``: that of ")". None: there is none.
        """
        text = self._text
        if start is None or end is None or end - at > _LONGEST_TAIL:
            yield at + 1, at + 1, " "
            return
        inside = text[at + 2 : end]
        destination = _DESTINATION.fullmatch(inside.strip())
        if destination is None and not _DESTINATION.fullmatch(self._original_of(at + 2, end).strip()):
            yield at + 1, at + 1, " "  # a remark in brackets
            return
        if destination is not None and text[start - 1 : start] != "!" and text[start + 1 : at].strip():
            group = destination.lastgroup or 0
            first = at + 2 + len(inside) - len(inside.lstrip()) + destination.start(group)
            last = first + len(destination[group])
            if self._is_allowed(first, last):
                self._kept_links.append((at, end + 1))
                if (first, last) != (at + 2, end):
                    yield at, end + 1, f"]({self._original_of(first, last)})"
                return
        yield start, start + 1, ""
        yield at, end + 1, ""

    def _reference(self, start: int | None, at: int, end: int | None) -> Iterator[_Edit]:
        """Yield the edits that leave the text of "[text][label]". If the label is too long to be one,
        separate the two."""
        if start is not None and end is not None and _REFERENCE.fullmatch(self._text, at + 2, end):
            yield start, start + 1, ""
            yield at, end + 1, ""
        else:
            yield at + 1, at + 1, " "

    def _begins_line(self, at: int) -> bool:
        """Return whether only marks of quotes and lists are before ``at`` on its line."""
        before = max(0, at - _LONGEST_LINE_START)
        line = self._text.rfind("\n", before, at) + 1
        return _LINE_START.fullmatch(self._text, max(line, before), at) is not None

    def _definition(self, start: int | None, at: int) -> Iterator[_Edit]:
        """Yield the removal of "[label]: address"; if no address follows, of the brackets alone. ``at``:
        position of "]"."""
        if start is not None:
            whole = _DEFINITION.match(self._text, at + 1, at + 1 + _LONGEST_TAIL)
            if whole and _ADDRESS_SIGN.search(whole[0], 1):
                yield start, whole.end(), ""
                return
            yield start, start + 1, ""
        yield at, at + 1, ""

    # Addresses

    def _addresses(self) -> Iterator[_Edit]:
        """Yield the edits of addresses outside of kept links. Call it after ``_brackets`` has ended, which
        finds these."""
        text, at = self._text, 0
        if not _ADDRESS_SIGN.search(text):
            return
        kept = iter([*sorted(self._kept_links), (len(text) + 1, len(text) + 1)])
        kept_start, kept_end = next(kept)
        while match := _ADDRESS.search(text, at):
            start = match.start()
            while kept_end <= start:
                kept_start, kept_end = next(kept)
            if start >= kept_start:
                at = kept_end
                continue
            edit, at = self._address_edit(match)
            if edit is not None:
                at = max(at, edit[1])
                yield edit

    def _address_edit(self, match: re.Match[str]) -> tuple[_Edit | None, int]:
        """Return the edit of a match of ``_ADDRESS``, None if it stays; and where to search for the next
        one."""
        start, end = match.span()
        if match.lastgroup not in ("www", "host"):
            return self._removal(start, end), self._address_end(end)
        if kept := self._kept_end(start, end):
            return None, kept
        if match.lastgroup == "host":
            # If the word stays, an address of another kind may begin inside: "javascript:" in
            # "e.javascript:x". No host does, because the group's lookbehinds refuse to begin inside a word.
            # So each word is read as a host once, and the time stays linear.
            return self._host_edit(start, end), start + 1
        if _BARE.match(self._text, end):
            return (end, end, " "), end
        return self._removal(start, end), self._address_end(end)

    def _kept_end(self, start: int, matched_end: int) -> int:
        """Return the end of the allowed address that begins with the match [start, matched_end); 0 if there
        is none."""
        limit = start + self._longest_allowed
        end = rest.end() if (rest := _ADDRESS_REST.match(self._text, matched_end, limit)) else matched_end
        if end == limit < len(self._text):
            return 0  # cut off: longer than any allowed address
        while not (allowed := self._is_allowed(start, end)) and end > matched_end:
            if self._text[end - 1] not in _AFTER_ADDRESS:
                break
            end -= 1
        return end if allowed else 0

    def _host_edit(self, start: int, end: int) -> _Edit | None:
        """Return the edit of a match of the group "host", a run of letters, digits and ``. _ @ + -``; None if
        it stays.

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
            return self._removal(start, end) if is_address else None
        ending = _host_ending(word)
        if not ending:
            return None
        dot = text.rindex(".", start, end)
        is_number = ending != word and text[start:dot].replace(".", "").isdigit()  # "5.mg/day"
        if _IP.fullmatch(ending) or (has_path and not is_number):
            return self._removal(start, end)
        return dot + 1, dot + 1, " "

    def _address_end(self, at: int) -> int:
        """Return where the address around ``at`` ends: at white space or a character that no address has."""
        rest = _ADDRESS_REST.match(self._text, at)
        return rest.end() if rest else at

    def _removal(self, start: int, matched_end: int) -> _Edit | None:
        """Return the removal of the address that begins with [start, matched_end); None if it is allowed.

        Punctuation that ends the sentence is kept, and so is a bracket that was opened before the address.
        """
        text, end = self._text, self._address_end(matched_end)
        unopened = text.count(")", start, end) - text.count("(", start, end)
        while not (allowed := self._is_allowed(start, end)) and end > matched_end:
            last = text[end - 1]
            if last not in _AFTER_ADDRESS or (last == ")" and unopened <= 0):
                break
            unopened -= last == ")"
            end -= 1
        return None if allowed else (*self._with_wrapping(start, end), "")

    def _with_wrapping(self, start: int, end: int) -> tuple[int, int]:
        """Return [start, end) with the brackets, quotes or emphasis around it that would be left empty, and a
        space before."""
        text = self._text
        for _ in range(4):  # such as **(_…_)**
            if start and end < len(text) and _WRAPPERS.get(text[start - 1]) == text[end]:
                start, end = start - 1, end + 1
        after = text[end : end + 1]
        if text[start - 1 : start] == " " and text[start - 2 : start - 1].strip() and after in " \n.,;:!?)":
            start -= 1
        return start, end


def _end_of_hidden(tag: str, end: int, ahead: _Ahead) -> int:
    """Return the end of the element that a tag opens, if clients hide its content ("<script>…</script>");
    else the tag's ``end``. ``tag``: its inside."""
    hiding = _HIDING.match(tag)
    closing = ahead.find(f"</{hiding[1].lower()}", end) if hiding and not tag.endswith("/") else -1
    closed = ahead.find(">", closing) if closing >= 0 else -1
    return closed + 1 if closed >= 0 else end


def _host_ending(host: str) -> str:
    """Return the last label of a host name, "com"; an IP address as a whole; "" for anything else, as
    "e.g"."""
    if "." not in host:
        return ""
    if _IP.fullmatch(host):
        return host if all(int(part) < 256 for part in host.split(".")) else ""
    ending = host.rpartition(".")[2].lower()
    return ending if ending in _ENDINGS or ending.startswith("xn--") else ""


def _closing_brackets(text: str) -> dict[int, int]:
    """Return the position of the closing bracket by that of its opening one: "([)" is {0: 2}, because round
    and square brackets are matched separately."""
    closing: dict[int, int] = {}
    round_ones: list[int] = []
    square_ones: list[int] = []
    for match in _BRACKET.finditer(text):
        bracket = match[0]
        open_ones = round_ones if bracket in "()" else square_ones
        if bracket in "([":
            open_ones.append(match.start())
        elif open_ones:
            closing[open_ones.pop()] = match.start()
    return closing


class _Ahead:
    """Finds the next position of a short string, in lower or upper case. If the start positions only grow, it
    scans the text once for each string."""

    def __init__(self, text: str) -> None:
        self._text = _lower(text)
        self._next: dict[str, int] = {}

    def find(self, wanted: str, at: int) -> int:
        """Return the first position of ``wanted``, in lower case, at or after ``at``; -1 if there is none."""
        known = self._next.get(wanted)
        if known is None or 0 <= known < at:
            self._next[wanted] = known = self._text.find(wanted, at)
        return known


def _lower(text: str) -> str:
    """Return the text in lower case, its length unchanged."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if c.isascii() else c for c in text)
