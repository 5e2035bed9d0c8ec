"""Signs the live values that the service sends out, so that a request can bring them back as evidence.

Records keep no live value, so a client sends back those that a text for the patient may say. Each carries a
message authentication code: "UNTIL.MAC", of tenant, answer, agent, element, value and expiry
(docs/decisions/0144-live-values-carry-a-mac.md).
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from assistant.answer.services import TenantServices
from assistant.domain.live import LONGEST_LIVE_TEXT, Element, ElementKind, ElementValue, LiveText
from assistant.stores.desk import HOLDS_FOR, WAITS_FOR

COUNTS_FOR = HOLDS_FOR + WAITS_FOR + HOLDS_FOR
"""A value may be said for so long: an hour to write, a second person's day, an hour to send it then."""
_PURPOSE = "live-value/1"
"""The key also makes pseudonyms, of messages that begin otherwise."""
_MAC_BYTES = 16


@dataclass(frozen=True, slots=True)
class LiveMacs:
    """Makes and checks the codes of one answer's live values, for the agent who asked.

    Example::

        macs = LiveMacs(services, "a1", "ann")
        text = macs.signed("e1", "Shipped")  # LiveText(element_id="e1", value="Shipped", mac="1795773600.…")
        macs.genuine([text, LiveText(element_id="e1", value="Lost")])  # (text,)
    """

    services: TenantServices
    answer_id: str
    agent: str

    def signed(self, element_id: str, value: str) -> LiveText:
        """Return a value with its code."""
        until = str(int((self.services.clock.now() + COUNTS_FOR).timestamp()))
        return LiveText(element_id=element_id, value=value, mac=self._mac(element_id, value, until))

    def is_genuine(self, element_id: str, value: str, mac: str) -> bool:
        """Return whether the service sent this value to this agent for this answer, and it still counts."""
        until = mac.partition(".")[0]
        if not (until.isascii() and until.isdigit() and int(until) > self.services.clock.now().timestamp()):
            return False
        return hmac.compare_digest(self._mac(element_id, value, until).encode(), mac.encode())

    def genuine(self, texts: Iterable[LiveText]) -> tuple[LiveText, ...]:
        """Return those of a request's values that the service sent out."""
        return tuple(text for text in texts if self.is_genuine(text.element_id, text.value, text.mac))

    def with_texts(self, element: Element) -> Element:
        """Return a ready element of a system with what it says, each text once."""
        texts = dict.fromkeys(text for text in _texts(element) if 0 < len(text) <= LONGEST_LIVE_TEXT)
        signed = tuple(self.signed(element.id, text) for text in texts)
        return element.model_copy(update={"texts": signed})

    def _mac(self, element_id: str, value: str, until: str) -> str:
        signed = [_PURPOSE, self.services.tenant.name, self.answer_id, self.agent, element_id, value, until]
        mac = hmac.digest(self.services.live.mac_key, orjson.dumps(signed), hashlib.sha256)[:_MAC_BYTES]
        return f"{until}.{urlsafe_b64encode(mac).decode().rstrip('=')}"


def _texts(element: Element) -> Iterator[str]:
    """Yield what an element says: in one line as a client fills it in, then value by value."""
    if (data := element.data) is None:
        return
    values = [value.text for value in data.values]
    match element.kind:
        case ElementKind.STATUS:
            yield ", ".join(values)
        case ElementKind.LINK:
            yield ": ".join(filter(None, (*values, data.url)))
        case ElementKind.TABLE:
            yield "; ".join(f"{row.title}: {_in_a_line(row.values)}" for row in data.rows)
        case ElementKind.CARD:
            yield _in_a_line(data.values)
    yield from (row.title for row in data.rows)
    yield from values
    yield from (value.text for row in data.rows for value in row.values)
    yield data.url or ""


def _in_a_line(values: Iterable[ElementValue]) -> str:
    return ", ".join(" ".join(filter(None, (value.label, value.text))) for value in values)
