"""``assistant aws upgrade``: stamp a tenant's tables for this release, or back for the one before.

A stamp says which releases may use a table, and it is all that is written: rows of both formats stand side by
side (``assistant/stores/formats.py``). So the command may be killed at any moment and run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from typer import Option

from assistant.stores.dynamodb_table import FORMAT_KEY, format_in, format_item, plain, typed
from assistant.stores.formats import StoreFormat, format_of, refuse_format
from assistant.stores.table import keyed
from assistant.tenant.deployed_names import TABLES
from assistant.terminal.account import AwsAccount
from assistant.terminal.terminal import GlobalOptions, Terminal, table

OnlyPlan = Annotated[bool, Option("--plan", help="Show what would move; change nothing.")]
WayBack = Annotated[bool, Option("--back", help="Give the stores back to the release before.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """A store as it stands, and what the move would do."""

    store: str
    place: str
    format: int
    needed: int
    rows: int
    """On AWS DynamoDB's own count, which is some hours old."""
    back_to: int
    """The oldest format whose release reads what the store has now."""


@dataclass(frozen=True, slots=True)
class StampedStore:
    """A table that has a stamp."""

    name: str
    place: str
    found: StoreFormat
    rows: int
    stamp: Callable[[StoreFormat], None]
    """Writes the stamp of a format; safe to repeat."""

    def state(self, *, back: bool) -> StoreState:
        return StoreState(
            store=self.name,
            place=self.place,
            format=self.found.number,
            needed=self.target(back=back).number,
            rows=self.rows,
            back_to=self.found.readable_from,
        )

    def target(self, *, back: bool) -> StoreFormat:
        """Return this release's format; on the way back the oldest one whose release reads the rows, as that
        release expects the stamp, so that it does not refuse the table."""
        oldest = self.found.readable_from
        return StoreFormat(oldest, oldest) if back else format_of(self.name)


def upgrade_stores(
    stores: Sequence[StampedStore], *, options: GlobalOptions, command: str, plan: bool, back: bool
) -> None:
    """Move what is not moved yet, and show what was found. Raises ConfigurationError before anything changes
    where a newer release wrote a store."""
    for store in stores:
        refuse_format(store.found, store=store.name, place=store.place, command=command)
    states = [store.state(back=back) for store in stores]
    if not plan:
        for store in stores:
            if store.found != store.target(back=back):
                store.stamp(store.target(back=back))
    if not options.writes(states):
        does = "would move to" if plan else "moved to"
        rows = [
            (
                state.store,
                state.place,
                f"format {state.format}",
                "stays" if state.format == state.needed else f"{does} format {state.needed}",
                f"{state.rows:,}",
                f"format {state.back_to}",
            )
            for state in states
        ]
        Terminal().out.print(table("store", "place", "found", "", "rows", "way back to", rows=rows))


def tables_of(aws: AwsAccount, *, data_stack: str) -> Iterator[StampedStore]:
    """Yield the tables of a tenant's data stack; none before its first deployment. Raises DeploymentError."""
    if aws.template(data_stack) is None:
        return
    names = aws.resources(data_stack)
    for definition in TABLES:
        role, table_name = definition.role, names.get(f"{definition.role.title()}Table")
        if table_name is not None:
            given = {"TableName": table_name}
            row = aws.call("dynamodb", "get_item", **given, Key=typed(keyed(FORMAT_KEY)), ConsistentRead=True)
            count = int(aws.call("dynamodb", "describe_table", **given)["Table"].get("ItemCount", 0))

            def stamp(to: StoreFormat, *, given: Mapping[str, str] = given) -> None:
                aws.call("dynamodb", "put_item", **given, Item=typed(format_item(to)))

            yield StampedStore(
                role, table_name, format_in(plain(row["Item"]) if "Item" in row else None), count, stamp
            )
