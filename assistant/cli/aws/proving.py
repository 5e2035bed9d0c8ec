"""``assistant aws prove``: what only an account or a chip shows. A row of ``proofs.toml`` is a command of the
shell that ends with 0 where it holds.

With a price cap all rows of a sandbox are run, in a tenant that is made for it and taken away at the end,
also after a failure.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field
from typer import Argument, Option

from assistant.cli.aws.cost import make_bill
from assistant.domain.errors import ConfigurationError
from assistant.tenant.prices import HOURS_A_MONTH, load_prices
from assistant.tenant.toml_file import StrictModel, read_strict
from assistant.terminal.account import Deployed
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal
from template_checks.priced import EMBEDDING
from template_checks.upgrades import templates_by_stack_name

FILE = Path(__file__).with_name("proofs.toml")


class Row(StrictModel):
    name: str = Field(pattern=r"^[a-z-]+$")
    shows: str
    minutes: int = Field(ge=1)
    """The longest that it takes; then it is ended, and does not hold."""
    command: str
    needs: str = ""
    """What it takes beside a sandbox of some hours; such a row is run by its name alone."""
    stops: bool = False
    """Whether the rows after it are not run where it does not hold."""


class Proofs(StrictModel):
    functions: str
    """Functions of the shell that the commands use."""
    synth: Row
    row: tuple[Row, ...]
    gone: Row
    """Takes the tenant away."""


def prove(
    context: typer.Context,
    tenant: Tenant,
    name: Annotated[str | None, Argument(metavar="[ROW]", help="As in docs/deciding.md.")] = None,
    most_usd: Annotated[float | None, Option(metavar="USD", help="Run all in a sandbox; delete it.")] = None,
) -> None:
    """Show what only an account or a chip shows: one row, or all of a sandbox under a price cap; status 1
    where one does not hold."""
    options, proofs = GlobalOptions.of(context), read_strict(FILE, Proofs)
    proving = Proving(Deployed.named(options, tenant), options.tenants_dir, proofs, Terminal(steps=True))
    rows = {row.name: row for row in proofs.row}
    if (name is None) == (most_usd is None) or (name is not None and name not in rows):
        raise typer.BadParameter(f"Give --most-usd, or one of these: {', '.join(rows)}.")
    ended = {name: proving.holds(rows[name])} if name else proving.all_of_sandbox(most_usd or 0.0)
    Terminal().json(ended)
    if not all(ended.values()):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Proving:
    """Runs rows for one tenant, in a clone of the repository."""

    deployed: Deployed
    tenants_dir: Path
    proofs: Proofs
    terminal: Terminal

    def all_of_sandbox(self, most_usd: float) -> dict[str, bool]:
        """Run the rows without ``needs``, until the cap would be passed; then take the tenant away. Return
        whether each that was run holds.

        Raises ConfigurationError before anything is made for a tenant that is no sandbox or stands already,
        and for a cap below what the longest times cost.
        """
        self.deployed.aws.require()
        states = {stack["StackStatus"] for stack in self.deployed.aws.stacks(self.deployed.stack(""))}
        if states - {"DELETE_COMPLETE"} or self.deployed.place.profile != "dev":
            raise ConfigurationError(
                "The tenant would be deleted at the end, and it has stacks, or another profile than dev. Run "
                "rows by their names, or first assistant aws destroy."
            )
        rows, gone = [row for row in self.proofs.row if not row.needs], self.proofs.gone
        usd = self._usd_a_minute()
        longest = sum(row.minutes for row in (*rows, gone))
        self.terminal.say(
            f"{usd * 60:.2f} USD an hour, for {longest} minutes at most: {usd * longest:.2f} USD"
        )
        if usd * longest > most_usd:
            raise ConfigurationError(f"That is more than {most_usd:.2f} USD: nothing was made.")
        ends_s, ended = time.monotonic() + (most_usd / usd - gone.minutes) * 60, dict[str, bool]()
        try:
            for row in rows:
                ended[row.name] = self.holds(row, minutes=(ends_s - time.monotonic()) / 60)
                if row.stops and not ended[row.name]:
                    break
        finally:
            ended[gone.name] = self.holds(gone)
        return ended

    def holds(self, row: Row, *, minutes: float = float("inf")) -> bool:
        """Run a row's command; return whether it ended with 0 within its time and these minutes. Its output
        is on stderr. What it started ends with it, and with this process."""
        self.terminal.step(f"{row.name}: {row.shows}")
        place, tenant = self.deployed.place, self.deployed.config.name
        variables = {"TENANT": tenant, "TENANTS": str(self.tenants_dir), "AWS_REGION": place.region}
        variables |= {"PREFIX": f"{place.name_prefix}-{tenant}", "PARAMETERS": place.parameter(tenant, "")}
        limit, script = f"{max(min(minutes, row.minutes), 0.01)}m", self.proofs.functions + row.command
        command = ["timeout", "--kill-after=10", limit, "bash", "-euo", "pipefail", "-c", script]
        with subprocess.Popen(command, env=os.environ | variables) as process:
            try:
                return process.wait() == 0
            finally:
                process.terminate()  # unless it has ended

    def _usd_a_minute(self) -> float:
        """Return what tenant and care side cost while the tenant is on, with a second fleet of the embedding
        endpoint. Raises ConfigurationError."""
        if not self.holds(self.proofs.synth):
            raise ConfigurationError("The templates of the tenant and its care side cannot be synthesized.")
        stages = map(templates_by_stack_name, Path("build/proofs").glob("*/assembly-*"))  # as `synth` writes
        templates = [template for stage in stages for template in stage.values()]
        bill = make_bill(templates, load_prices().of_tenant(self.deployed.config), questions=1)
        return (bill.month("on") + bill.month("on", part=EMBEDDING)) / HOURS_A_MONTH / 60
