"""Pages of Confluence, by Atlassian's REST API: Cloud (v2, restrictions by v1) and Data Center.

Each run lists all pages of the spaces: a page's modification date does not change with its restrictions, or
with those of a page above it, so no search for changes is exact.

A cursor is the index of a space, and Confluence's own cursor within it: "1 eyJpZCI6…", "1" at the beginning
of the second space, "" after the last. The classes below are the parts that are read of Confluence's
responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
from pydantic import AliasChoices, AliasPath, BaseModel, Field, ValidationError

from assistant.domain.clock import Deadline
from assistant.domain.errors import DependencyError, DocumentInvalidError
from assistant.options.sources.connector import (
    ChangedItem,
    ChangePage,
    FetchedItem,
    ServerFailedError,
    WikiHttp,
)
from assistant.options.sources.section import ConfluenceConnector

_MOST_ANCESTORS = 250
Answer = TypeVar("Answer", bound=BaseModel)
Item = TypeVar("Item")


class _Results(BaseModel, Generic[Item]):
    results: list[Item]


class _Item(BaseModel):
    """A page or space: its id."""

    id: str


class _Listed(_Item):
    """A page in a list."""

    version: int = Field(validation_alias=AliasPath("version", "number"))


class _Links(BaseModel):
    next: str | None = None
    """Address of the list's next page, with the cursor in its query."""


class _List(_Results[_Listed]):
    links: _Links = Field(alias="_links")


class _Space(_Item):
    key: str


class _Page(_Item):
    """A page with its HTML."""

    status: str
    """``current``, or trashed, draft, …"""
    title: str
    content: str = Field(validation_alias=AliasPath("body", "view", "value"))
    space: str = Field(validation_alias=AliasChoices("spaceId", AliasPath("space", "key")))
    """The space's id (Cloud) or key (Data Center)."""
    updated_at: datetime | None = Field(
        default=None,
        validation_alias=AliasChoices(AliasPath("version", "createdAt"), AliasPath("version", "when")),
    )
    link: str | None = Field(default=None, validation_alias=AliasPath("_links", "webui"))


class _DataCenterPage(_Page):
    """A page with the pages above it, which Cloud lists by another call."""

    ancestors: list[_Item]


class _Group(BaseModel):
    name: str


class _Readers(BaseModel):
    """Users and groups that a restriction names; both empty: there is none."""

    user: _Results[Any]
    group: _Results[_Group]


class _Restriction(BaseModel):
    operation: Literal["read"]
    restrictions: _Readers


class ConfluencePages:
    """``Connector`` of the pages of some spaces, for one run.

    ``_Cloud`` and ``_DataCenter`` differ in two methods: ``page`` returns a page, the key of its space ("" if
    that is none of the settings') and the ids of the pages above it; ``listed`` a page of a space's list, and
    the cursor of the next one ("" after the last).
    """

    def __init__(self, settings: ConfluenceConnector, *, secret: str) -> None:
        """``secret``: an API token (with ``user``) or a bearer token."""
        self._settings = settings
        self._http = _Http(settings, secret)
        is_cloud = settings.edition == "cloud"
        self._edition = _Cloud(self._http, settings.spaces) if is_cloud else _DataCenter(self._http)
        self._given = ""
        """The cursor that ``changes`` returned last: one from outside is of an earlier run."""
        self._readers: dict[str, frozenset[str] | None] = {}
        """Labels of a page's own restriction by its id, None without one; forgotten with each call of
        ``changes``, since restrictions may change."""

    async def close(self) -> None:
        await self._http.close()

    async def changes(self, cursor: str | None, *, deadline: Deadline) -> ChangePage:
        """Return all pages, one space after another. A cursor of an earlier run begins its space again:
        Confluence does not say how long its own cursors are valid."""
        self._readers = {}
        if cursor and cursor != self._given:
            cursor = cursor.partition(" ")[0]
        listed, self._given = await self._listed(cursor or "", deadline)
        changed = [ChangedItem(page.id, str(page.version)) for page in listed.results]
        return ChangePage(changed, self._given, not self._given)

    async def all_ids(self, after: str | None, *, deadline: Deadline) -> tuple[Sequence[str], str | None]:
        listed, following = await self._listed(after or "", deadline)
        return [page.id for page in listed.results], following or None

    async def fetch(self, item_id: str, *, deadline: Deadline) -> FetchedItem | None:
        try:
            return await self._fetch(item_id, deadline)
        except ServerFailedError as error:  # of this page: the next run lists it again
            raise DocumentInvalidError(error.message) from None

    async def _fetch(self, item_id: str, deadline: Deadline) -> FetchedItem | None:
        """Return a page; its labels are those that its restrictions and those of all pages above it have in
        common."""
        answer = await self._edition.page(item_id, deadline)
        if answer is None or answer[0].status != "current" or answer[1] not in self._settings.spaces:
            return None
        page, _, ancestors = answer
        labels: frozenset[str] | None = None
        for page_id in (item_id, *ancestors):
            allowed = await self._allowed(page_id, deadline)
            if allowed is not None:
                labels = allowed if labels is None else labels & allowed
        if labels is not None and not labels:
            raise DocumentInvalidError(
                "labels: its restrictions and those of the pages above it name users alone or groups without "
                "labels, or have no label in common. Map the groups in groups of the connector."
            )
        return FetchedItem(
            title=page.title,
            media_type="text/html",
            content=page.content,
            url=self._http.address(page.link),
            effective_date=page.updated_at.date() if page.updated_at else None,
            labels=None if labels is None else tuple(sorted(labels)),
        )

    async def _listed(self, cursor: str, deadline: Deadline) -> tuple[_List, str]:
        """Return a page of the list of all pages, and the next cursor, "" after the last."""
        index, _, after = cursor.partition(" ")
        space = int(index or 0)
        pages, following = await self._edition.listed(self._settings.spaces[space], after, deadline)
        if following:
            return pages, f"{space} {following}"
        return pages, str(space + 1) if space + 1 < len(self._settings.spaces) else ""

    async def _allowed(self, item_id: str, deadline: Deadline) -> frozenset[str] | None:
        """Return the labels of those who may read an item by its own restriction; None where it has none.

        Users and groups without a label are left out, so fewer people may read it than in Confluence, never
        more.
        """
        if item_id in self._readers:
            return self._readers[item_id]
        path = f"/rest/api/content/{quote(item_id, safe='')}/restriction/byOperation/read"
        query = {"expand": "restrictions.user,restrictions.group"}
        restriction = await self._http.get(path, query, _Restriction, deadline)
        if restriction is None:
            raise DocumentInvalidError(
                "labels: the restrictions of it or of a page above it are not readable."
            )
        groups = [group.name for group in restriction.restrictions.group.results]
        labels = None
        if groups or restriction.restrictions.user.results:
            labels = frozenset(self._settings.labels_of(groups))
        self._readers[item_id] = labels
        return labels


class _Cloud:
    """Cloud's v2. Its spaces have ids beside their keys."""

    def __init__(self, http: _Http, keys: Sequence[str]) -> None:
        self._http = http
        self._keys = keys
        self._ids: Mapping[str, str] = {}

    async def page(self, item_id: str, deadline: Deadline) -> tuple[_Page, str, Sequence[str]] | None:
        path = f"/api/v2/pages/{quote(item_id, safe='')}"
        page = await self._http.get(path, {"body-format": "view"}, _Page, deadline)
        above = await self._http.get(
            f"{path}/ancestors", {"limit": str(_MOST_ANCESTORS)}, _Results[_Item], deadline
        )
        if page is None or above is None:
            return None
        if len(above.results) >= _MOST_ANCESTORS:
            raise DocumentInvalidError(f"it has {_MOST_ANCESTORS} pages above it or more. Move it up.")
        keys = {number: key for key, number in (await self._space_ids(deadline)).items()}
        return page, keys.get(page.space, ""), [item.id for item in above.results]

    async def listed(self, space: str, after: str, deadline: Deadline) -> tuple[_List, str]:
        path = f"/api/v2/spaces/{(await self._space_ids(deadline))[space]}/pages"
        query = {"status": "current", "limit": "250", **({"cursor": after} if after else {})}
        return await self._http.list(path, query, "cursor", deadline)

    async def _space_ids(self, deadline: Deadline) -> Mapping[str, str]:
        """Return id by key of the settings' spaces. Raises DependencyError if one is not there."""
        if not self._ids:
            query = {"keys": ",".join(self._keys), "limit": "250"}
            spaces = await self._http.get("/api/v2/spaces", query, _Results[_Space], deadline)
            ids = {space.key: space.id for space in spaces.results} if spaces else {}
            if missing := sorted(set(self._keys) - set(ids)):
                raise DependencyError(
                    f"Confluence shows no space {missing[0]}. Check spaces and the account's permission."
                )
            self._ids = ids
        return self._ids


class _DataCenter:
    """Data Center's REST API."""

    def __init__(self, http: _Http) -> None:
        self._http = http

    async def page(self, item_id: str, deadline: Deadline) -> tuple[_Page, str, Sequence[str]] | None:
        path = f"/rest/api/content/{quote(item_id, safe='')}"
        query = {"expand": "body.view,version,space,ancestors"}
        page = await self._http.get(path, query, _DataCenterPage, deadline)
        return None if page is None else (page, page.space, [each.id for each in page.ancestors])

    async def listed(self, space: str, after: str, deadline: Deadline) -> tuple[_List, str]:
        shown = {"type": "page", "expand": "version", "limit": "100"}
        query = {**shown, "spaceKey": space, "start": after or "0"}
        return await self._http.list("/rest/api/content", query, "start", deadline)


class _Http(WikiHttp):
    """GET requests to one Confluence."""

    def __init__(self, settings: ConfluenceConnector, secret: str) -> None:
        self._base = settings.url.rstrip("/")
        user = settings.user
        bearer = f"Bearer {secret}"
        authorization = aiohttp.encode_basic_auth(user, secret, "utf-8") if user else bearer
        super().__init__("Confluence", settings, headers={"Authorization": authorization})

    def address(self, link: str | None) -> str | None:
        """Return the address of a link that Confluence gives for people; None for one that leads
        elsewhere."""
        if not link or not link.startswith("/") or link.startswith("//"):
            return None
        return self._base + link

    async def list(
        self, path: str, query: Mapping[str, str], following: str, deadline: Deadline
    ) -> tuple[_List, str]:
        """Return a page of a list, and the value of the parameter ``following`` for the next page; "" after
        the last. Raises DependencyError for a next page on another host, or without a new value."""
        listed = await self.get(path, query, _List, deadline)
        if listed is None:
            raise DependencyError("Confluence has no such space. Check spaces and the account's permission.")
        link = listed.links.next
        if link is None:
            return listed, ""
        parts, base = urlsplit(link), urlsplit(self._base)
        if (parts.scheme, parts.netloc) not in (("", ""), (base.scheme, base.netloc)):
            raise DependencyError("Confluence names a next page on another host. It was not asked.")
        value = parse_qs(parts.query).get(following, [""])[0]
        if not value or value == query.get(following):
            raise DependencyError(f"Confluence names a next page without a new {following}.")
        return listed, value

    async def get(
        self, path: str, query: Mapping[str, str], answer: type[Answer], deadline: Deadline
    ) -> Answer | None:
        """Return a response as the model ``answer``; None for 404. Raises as ``WikiHttp.ask``."""
        body = await self.ask(self._base + path, query, deadline=deadline)
        try:
            return None if body is None else answer.model_validate_json(body)
        except ValidationError:
            raise DependencyError(f"Confluence answered {path} not in its format. Check url.") from None
