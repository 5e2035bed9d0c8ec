"""Incremental decoding of server-sent events (https://html.spec.whatwg.org, 9.2.6): only their data."""

from __future__ import annotations

_LARGEST_EVENT_BYTES = 1024 * 1024


class EventTooLargeError(Exception):
    """An event has no end within the bound."""


class ServerSentEventParser:
    """Takes bytes as they come, cut anywhere, and gives the data of whole events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._after_return = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that ``data`` completes. Raises EventTooLargeError."""
        between_events = not (self._rest or self._data or self._after_return)
        if between_events and (whole := _whole_events(data)) is not None:
            return whole
        return self._feed_lines(data)

    def _feed_lines(self, data: bytes) -> list[bytes]:
        if self._after_return and data:
            self._after_return = False
            if data.startswith(b"\n"):  # the second half of a line end that was cut
                data = data[1:]
        self._after_return = self._after_return or data.endswith(b"\r")
        lines = (self._rest + data).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        events: list[bytes] = []
        for line in lines:
            self._take(line.rstrip(b"\r\n"), events)
        if self._size + len(self._rest) > _LARGEST_EVENT_BYTES:
            raise EventTooLargeError(f"an event is over {_LARGEST_EVENT_BYTES} bytes")
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._size += len(value)
        elif not line and self._data:
            events.append(b"\n".join(self._data))
            self._data.clear()
            self._size = 0


def _whole_events(data: bytes) -> list[bytes] | None:
    """Return the data of what is nothing but whole events of one line each; None for anything else.

    That is how servers write their streams: it saves taking them apart into lines.
    """
    if not (data.startswith(b"data: ") and data.endswith(b"\n\n")) or b"\r" in data:
        return None
    events = data[6:-2].split(b"\n\ndata: ")
    return events if data.count(b"\n") == 2 * len(events) else None
