"""``connector`` of a ``[[sources]]`` entry: the wiki or database that its documents come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from assistant.tenant.deployment_checks import Contradiction
from assistant.tenant.tenant import SourceEntry, SourceTable, TenantConfig
from assistant.tenant.toml_file import KeyMark, Tables

# A column in a template: {question}.
_COLUMN = re.compile(r"\{([A-Za-z_]\w{0,62})\}")
_Labels = Annotated[tuple[str, ...], Field(max_length=200)]
ColumnName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w{0,62}$")]
Template = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
"""Text with names of columns: ``{question}``."""


def filled(template: str, values: Mapping[str, object]) -> str:
    """Return a template with the values of its columns: ``filled("{id}: {name}", {"id": 7, "name": None})``
    is "7: ". ``values`` must have every column of the template."""
    return _COLUMN.sub(lambda column: "" if (value := values[column[1]]) is None else str(value), template)


def _has_no_password(url: str) -> str:
    """Return the URL. Raises ValueError for one with a password."""
    if urlsplit(url).password is not None:
        raise ValueError("it has a password. Delete it from the url, and name where it is: secret")
    return url


class SourceConnector(SourceTable):
    """What all connectors have."""

    table_name: ClassVar = "connector"
    every_minutes: int = Field(default=60, ge=1, le=10_080)
    """Time between the beginnings of two runs."""
    requests_per_second: float = Field(default=5.0, gt=0.0, le=1_000.0)
    """Most requests to the system in a second."""
    secret: str | None = Field(default=None, pattern=r"^(state|file|secretsmanager):\S{1,256}$")
    """Where the password or token is: ``file:PATH`` (relative to the tenant file), ``state:NAME`` (the file
    STATE/secrets/<tenant>/NAME). A deployment writes ``secretsmanager:NAME`` in its place: the secret of the
    ``[[reach]]`` entry."""
    reach: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9-]{1,30}$")
    """On AWS: the ``[[reach]]`` entry through which the system is called."""
    ca_pem: Annotated[str | None, KeyMark.DEPLOYMENT_WRITES] = Field(default=None, max_length=200_000)
    """Authorities that sign the system's certificate; the machine's when absent. A deployment fills it in,
    from ``ca_file`` of the entry."""

    @classmethod
    def field(cls) -> tuple[Any, Any]:
        return Annotated[AnyConnector | None, cls.mark], None

    def check(self, source: SourceEntry, /) -> None:
        if source.kind == "live" or source.paths or source.access == "folder":
            raise ValueError(
                f'the source "{source.name}" has a connector, so what the system does not have is withdrawn: '
                'delete paths, and write access = "everyone" or "declared", and a kind of documents'
            )


class _GroupConnector(SourceConnector):
    """What connectors of systems have whose restrictions name groups."""

    groups: Mapping[str, _Labels] = {}
    """Group = labels. What only users or other groups may read is refused."""

    @property
    def labels_given(self) -> set[str]:
        return {label for labels in self.groups.values() for label in labels}

    def labels_of(self, groups: Iterable[str]) -> set[str]:
        """Return the labels of those groups that have some."""
        return {label for group in groups for label in self.groups.get(group, ())}


class SqlConnector(_GroupConnector):
    """Rows of a database."""

    kind: Literal["sql"]
    """A database."""
    requests_per_second: float = Field(default=500.0, gt=0.0, le=1_000.0)
    """Queries: a page of changed rows is one."""
    url: Annotated[str, AfterValidator(_has_no_password), Field(min_length=5, max_length=500)]
    """SQLAlchemy's URL, without a password: ``postgresql+pg8000://reader@db.internal/handbook``."""
    query: str = Field(min_length=8, max_length=20_000)
    """A SELECT of the columns that the other keys name, a row a document."""
    key: ColumnName
    """Column that names a row: unique, never NULL."""
    changed: ColumnName
    """Column that grows with each change of a row: a time or a number."""
    title: Template
    """Title of a row's document, with names of columns: ``{question}``."""
    text: Template
    """Text of a row's document, with names of columns."""
    media_type: Literal["text/markdown", "text/html", "text/plain"] = "text/plain"
    """What ``text`` is."""
    link: Template | None = None
    """Address of the row for people."""
    groups_column: ColumnName | None = None
    """Column with the groups that may read a row, separated by commas; empty: every agent. A row with NULL is
    refused."""
    page_size: int = Field(default=200, ge=1, le=5_000)
    """Rows of one query."""

    @model_validator(mode="after")
    def _groups_belong_together(self) -> Self:
        if bool(self.groups) != (self.groups_column is not None):
            raise ValueError("groups_column and groups belong together; write both or neither")
        return self

    @property
    def columns(self) -> list[str]:
        """The columns that are read, each once."""
        templates = [self.title, self.text, self.link or ""]
        named = [name for template in templates for name in _COLUMN.findall(template)]
        return list(dict.fromkeys([self.key, self.changed, *named, *filter(None, [self.groups_column])]))


class MediaWikiConnector(SourceConnector):
    """Pages of a MediaWiki."""

    kind: Literal["mediawiki"]
    """A MediaWiki."""
    api: str = Field(
        pattern=r"^(https://|http://(127\.0\.0\.1|localhost)[:/])[^@\s?#]*/api\.php$", max_length=500
    )
    """Address of ``api.php``; ``http`` only on this machine."""
    user: str | None = Field(default=None, max_length=200)
    """Of a bot password (Special:BotPasswords): ``Reader@assistant``; its password is in ``secret``."""
    namespaces: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, max_length=50)] = (0,)
    """Numbers of the namespaces whose pages are read."""
    labels: Mapping[str, _Labels] = {}
    """Number of a namespace = labels of its pages; without it the source's ``access`` decides."""
    page_size: int = Field(default=50, ge=1, le=500)
    """Pages of one request."""

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if (self.user is None) != (self.secret is None):
            raise ValueError("user and secret belong together; write both or neither")
        if unknown := sorted(set(self.labels) - {str(number) for number in self.namespaces}):
            raise ValueError(f'labels has "{unknown[0]}", which is none of namespaces')
        return self

    @property
    def labels_given(self) -> set[str]:
        return {label for labels in self.labels.values() for label in labels}


class ConfluenceConnector(_GroupConnector):
    """Pages of Confluence."""

    kind: Literal["confluence"]
    """A Confluence."""
    url: str = Field(
        pattern=r"^(https://[^@\s?#/]+|http://(localhost|127\.0\.0\.1)(:\d{1,5})?)(/[^@\s?#]*)?$",
        max_length=500,
    )
    """Cloud: ``https://company.atlassian.net/wiki``. Data Center: its base URL."""
    edition: Literal["cloud", "data-center"]
    """``cloud``, or ``data-center`` on the company's own servers."""
    user: str | None = Field(default=None, max_length=200)
    """Cloud: the e-mail address of the account whose API token is in ``secret``. Without it, ``secret`` is a
    bearer token: OAuth's, or a personal access token of Data Center."""
    spaces: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^~?[A-Za-z0-9]{1,255}$")], ...],
        Field(min_length=1, max_length=250),
    ]
    """Keys of the spaces whose pages are read."""

    @model_validator(mode="after")
    def _has_a_secret(self) -> Self:
        if self.secret is None:
            raise ValueError("secret is missing; name where the token is")
        if self.user is not None and self.edition == "data-center":
            raise ValueError('user is for edition = "cloud"; Data Center takes a personal access token')
        return self


AnyConnector = Annotated[SqlConnector | MediaWikiConnector | ConfluenceConnector, Field(discriminator="kind")]
"""Another kind is one more model here, and one more line in ``assistant.options.sources.opened``."""
# Usual port by the scheme of a system's URL.
_PORTS = {"https": 443, "postgresql": 5432}


TABLES: Tables = {SourceEntry: SourceConnector}


def connector_of(source: SourceEntry) -> AnyConnector | None:
    """Return the connector of a source; None where it has none."""
    return cast("AnyConnector | None", SourceConnector.of(source))


def contradictions(tenant: TenantConfig) -> Iterator[Contradiction]:
    """Yield each source whose ``connector.reach`` names no ``[[reach]]`` entry with its system's host and
    port."""
    places = {
        entry.name: (entry.host_name, entry.port) for entry in tenant.reach if entry.caller == "connectors"
    }
    for number, source in enumerate(tenant.sources):
        if (connector := connector_of(source)) is not None:
            host, port = place = place_of(connector)
            if places.get(connector.reach or "") != place:
                yield Contradiction(
                    ("sources", number, "connector", "reach"),
                    'it names no way to the system: a [[reach]] entry with caller = "connectors", '
                    f'host_name = "{host or "HOST"}" and port = {port or "PORT"}.',
                )


def place_of(connector: AnyConnector) -> tuple[str | None, int | None]:
    """Return host and port of the system; None for one that its URL does not have."""
    parts = urlsplit(connector.api if isinstance(connector, MediaWikiConnector) else connector.url)
    return parts.hostname, parts.port or _PORTS.get(parts.scheme.partition("+")[0])
