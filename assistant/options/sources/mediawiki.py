"""Pages of a MediaWiki as documents, by its action API (mediawiki.org, API:Main_page).

A cursor of ``changes`` is JSON. In the first reading "after" is a cursor of ``all_ids``, "" at its beginning:

    {"at": "2026-11-20T09:00:00Z", "after": "{\\"namespace\\": 1}"}   still listing all pages
    {"at": "2026-11-20T09:00:00Z"}                                 recent changes since then
    {"at": …, "continue": {"rccontinue": …}}                       their next page

A cursor of ``all_ids`` is {"namespace": index, "continue": {…}}. "continue" is MediaWiki's own, sent as it
came.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import ConfigurationError, DependencyError, DocumentInvalidError, OverloadedError
from assistant.options.sources.connector import ChangedItem, ChangePage, FetchedItem, WikiHttp
from assistant.options.sources.section import MediaWikiConnector

_MAX_LAG_S = 5
"""Seconds by which the wiki's database copies may lag; above it the wiki refuses, and is asked again
later."""
_CHANGES_KEPT = timedelta(days=30)
"""A wiki forgets its recent changes, after 90 days by default: from an older cursor on, all is read again."""
# Codes of the API's errors: try again later; sign in again; the page is gone.
_BUSY = frozenset({"maxlag", "ratelimited", "readonly"})
_NO_SESSION = frozenset({"assertuserfailed", "assertnameduserfailed", "readapidenied"})
_GONE = frozenset({"nosuchpageid", "missingtitle"})
Json = Mapping[str, Any]
_OBJECT = TypeAdapter(dict[str, Any])


class _ApiError(DependencyError):
    """An error of the API, which comes in a body with the status 200."""

    def __init__(self, api_code: str, info: str) -> None:
        super().__init__(f"The wiki refused: {api_code}: {info:.200}")
        self.api_code = api_code


@asynccontextmanager
async def _in_the_apis_form() -> AsyncGenerator[None]:
    """Decorate a method: raise DependencyError for a response without the keys that it reads."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DependencyError(f"The wiki gave an answer of another form: {error!r:.80}.") from None


class MediaWikiPages:
    """``Connector`` of the pages of some namespaces. An item's id is the page's number: a move keeps it."""

    def __init__(self, settings: MediaWikiConnector, *, password: str | None, clock: Clock) -> None:
        self._settings = settings
        self._password = password
        self._clock = clock
        self._http = WikiHttp("The wiki", settings, headers={}, cookies=True)
        self._is_signed_in = False
        self._signing_in = asyncio.Lock()

    async def close(self) -> None:
        await self._http.close()

    @_in_the_apis_form()
    async def changes(self, cursor: str | None, *, deadline: Deadline) -> ChangePage:
        """Return all pages at first, one namespace after another; then the recent changes since that
        began."""
        place = _decoded(cursor)
        since = place.get("at")
        if since is None or self._clock.now() - datetime.fromisoformat(since) > _CHANGES_KEPT:
            answer = await self._ask(deadline, curtimestamp=1)
            place = {"at": answer["curtimestamp"], "after": ""}
        if "after" in place:
            ids, after = await self.all_ids(place["after"] or None, deadline=deadline)
            place = {"at": place["at"], **({} if after is None else {"after": after})}
            return ChangePage([ChangedItem(name, "") for name in ids], _encoded(place), after is None)
        return await self._recent(place, deadline)

    async def _recent(self, place: Json, deadline: Deadline) -> ChangePage:
        """Return a page of recent changes. The new titles of moved pages are looked up, for their ids."""
        answer = await self._ask(
            deadline,
            list="recentchanges",
            rcdir="newer",
            rcstart=place["at"],
            rctype="edit|new|log",
            rcprop="ids|timestamp|loginfo",
            rclimit=self._settings.page_size,
            **place.get("continue", {}),
        )
        entries: Sequence[Json] = answer["query"]["recentchanges"]
        changed = {str(entry["pageid"]): str(entry["rcid"]) for entry in entries if entry["pageid"]}
        if moved := [
            entry["logparams"]["target_title"] for entry in entries if entry.get("logtype") == "move"
        ]:
            moves = await self._ask(deadline, titles="|".join(moved))
            changed |= {str(page["pageid"]): "moved" for page in moves["query"]["pages"] if "pageid" in page}
        is_last = "continue" not in answer
        # The last second is read again next time: it may not have been over.
        since = entries[-1]["timestamp"] if is_last and entries else place["at"]
        following = {"at": since, **({} if is_last else {"continue": answer["continue"]})}
        return ChangePage([ChangedItem(*item) for item in changed.items()], _encoded(following), is_last)

    @_in_the_apis_form()
    async def fetch(self, item_id: str, *, deadline: Deadline) -> FetchedItem | None:
        wanted = {"prop": "info|revisions", "inprop": "url|protection", "rvprop": "timestamp"}
        answer = await self._ask(deadline, pageids=item_id, **wanted)
        page: Json = answer["query"]["pages"][0]
        if "revisions" not in page or page.get("redirect") or page["ns"] not in self._settings.namespaces:
            return None
        if any(rule["type"] == "read" for rule in page["protection"]):
            raise DocumentInvalidError("labels: the wiki restricts who reads it, and that maps to no label.")
        if page["contentmodel"] != "wikitext":
            raise DocumentInvalidError(f"its content is {page['contentmodel']}, not text of a wiki.")
        without = {"disableeditsection": 1, "disabletoc": 1, "disablelimitreport": 1}
        try:
            answer = await self._ask(deadline, action="parse", pageid=item_id, prop="text", **without)
            text = answer["parse"]
        except _ApiError as error:
            if error.api_code in _GONE:
                return None
            raise DocumentInvalidError(f"it cannot be read: {error.message}") from None
        return FetchedItem(
            title=text["title"],
            media_type="text/html",
            content=text["text"],
            url=page["canonicalurl"],
            effective_date=datetime.fromisoformat(page["revisions"][0]["timestamp"]).date(),
            labels=self._settings.labels.get(str(page["ns"])),
        )

    @_in_the_apis_form()
    async def all_ids(self, after: str | None, *, deadline: Deadline) -> tuple[Sequence[str], str | None]:
        place = _decoded(after)
        index: int = place.get("namespace", 0)
        continued: Json | None = place.get("continue")
        answer = await self._ask(
            deadline,
            list="allpages",
            apnamespace=self._settings.namespaces[index],
            apfilterredir="nonredirects",
            aplimit=self._settings.page_size,
            **(continued or {}),
        )
        continued = None
        if "continue" in answer:
            continued = {"namespace": index, "continue": answer["continue"]}
        elif index + 1 < len(self._settings.namespaces):
            continued = {"namespace": index + 1}
        ids = [str(page["pageid"]) for page in answer["query"]["allpages"]]
        return ids, None if continued is None else _encoded(continued)

    async def _ask(self, deadline: Deadline, *, action: str = "query", **parameters: str | int) -> Json:
        """Return the response to a query. It is signed in if the settings have a user; if the session has
        ended, it signs in again and repeats the query once.

        Raises ConfigurationError, and as ``WikiHttp.ask``.
        """
        signed = {} if self._settings.user is None else {"assert": "user"}
        query = {"action": action, **parameters, **signed}
        await self._sign_in(deadline)
        try:
            return await self._send(query, deadline)
        except _ApiError as error:
            if error.api_code not in _NO_SESSION or not signed:
                raise
            self._is_signed_in = False
        await self._sign_in(deadline)
        return await self._send(query, deadline)

    async def _sign_in(self, deadline: Deadline) -> None:
        """Sign in with the bot password unless that was done; other calls wait meanwhile."""
        async with self._signing_in:
            if self._settings.user is None or self._is_signed_in:
                return
            token = await self._send({"action": "query", "meta": "tokens", "type": "login"}, deadline)
            form = {
                "lgname": self._settings.user,
                "lgpassword": self._password or "",
                "lgtoken": token["query"]["tokens"]["logintoken"],
            }
            answer = (await self._send({"action": "login"}, deadline, form=form))["login"]
            if answer["result"] != "Success":
                raise ConfigurationError(
                    f"The wiki refused the sign-in of {self._settings.user}: {answer['result']}. It needs a "
                    "bot password (Special:BotPasswords) with the permission to read."
                )
            self._is_signed_in = True

    async def _send(
        self,
        parameters: Mapping[str, str | int],
        deadline: Deadline,
        *,
        form: Mapping[str, str] | None = None,
    ) -> Json:
        """Return a response. Raises DependencyError if it is no JSON object, OverloadedError for ``_BUSY``,
        _ApiError for other errors of the API."""
        query = {**parameters, "format": "json", "formatversion": 2, "maxlag": _MAX_LAG_S}
        body = await self._http.ask(self._settings.api, query, deadline=deadline, form=form)
        try:
            response = _OBJECT.validate_json(body or b"")
        except ValidationError:
            no_json = "The wiki answered no JSON. Check connector.api, and proxies before it."
            raise DependencyError(no_json) from None
        if error := response.get("error"):
            if error["code"] in _BUSY:
                raise OverloadedError(f"The wiki asks to wait: {error['code']}.")
            raise _ApiError(error["code"], str(error.get("info", "")))
        return response


def _encoded(place: Json) -> str:
    return orjson.dumps(place).decode()


def _decoded(cursor: str | None) -> dict[str, Any]:
    """Return the place of a cursor; {} for None. Raises DependencyError for a cursor of another connector."""
    try:
        return _OBJECT.validate_json(cursor or b"{}")
    except ValidationError:
        raise DependencyError("The kept place is not one of this connector. Run with --again.") from None
