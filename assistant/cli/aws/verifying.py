"""``assistant aws audit`` verifies the chains of audit records and the digests of their days;
``assistant aws receipt`` verifies receipts of withdrawals against the deployment's key and AWS Backup.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import orjson
import typer
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from typer import Argument, Option

from assistant.domain.audit import day_of
from assistant.domain.documents import signed_text
from assistant.domain.errors import ConfigurationError
from assistant.process.settings import AuditSettings
from assistant.stores.audit import DIGESTS, AuditReport, VerifyAudit
from assistant.stores.records import RECORDS
from assistant.tenant.deployed_names import AUDIT_OUTPUT, RECEIPT_KEY_OUTPUT, RECOVERY_VAULT_OUTPUT
from assistant.tenant.deployment import RECOVERY
from assistant.terminal.account import Deployed
from assistant.terminal.terminal import From, GlobalOptions, Tenant, Terminal, To, table, window_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

audit = typer.Typer(no_args_is_help=True, help="Verify the chains of audit records.")
receipt = typer.Typer(no_args_is_help=True, help="Verify receipts of withdrawals, and name recovery points.")
Local = Annotated[bool, Option("--local", help="Verify the stores of this machine instead.")]


@audit.callback()
@receipt.callback()
def group() -> None:
    """Keep ``verify`` a command of its own: a group of one command would be that command."""


@audit.command(name="verify")
def verify_audit(
    context: typer.Context, tenant: Tenant, since: From = None, until: To = None, local: Local = False
) -> None:
    """Check records and digests of whole days (UTC) against each other; status 1 where anything is wrong.

    A deployment's days are those whose digests have not expired.
    """
    options, terminal = GlobalOptions.of(context), Terminal()
    begin, end = window_of(since, until)
    days = day_of(begin), day_of(end - timedelta(microseconds=1))

    async def run() -> AuditReport:
        if local:
            async with options.stores(tenant) as stores:
                records, digests = stores.get(RECORDS), stores.get(DIGESTS)
                return await VerifyAudit(records, digests).run(*days)
        from assistant.stores.opened import open_audit

        settings = audit_of(Deployed.named(options, tenant))
        async with open_audit(settings) as opened:
            oldest = day_of(await opened.digests.now()) - timedelta(days=settings.kept_days - 1)
            return await VerifyAudit(opened.records, opened.digests).run(max(days[0], oldest), days[1])

    report = asyncio.run(run())
    if not options.writes(report):
        rows = [(str(finding.day), finding.fault, finding.said) for finding in report.findings]
        if rows:
            terminal.out.print(table("day (UTC)", "fault", "what was found, and what to do", rows=rows))
        unchained = f"{report.unchained} unchained, before {report.chained_from or 'chains began'}"
        terminal.warn(
            f"{len(rows)} findings. {report.since} to {report.until}: {report.days} days with a digest, "
            f"{report.writers} chains, {report.records} records in them; {unchained}. {report.rows} rows of "
            f"answers, verdicts, sent texts and acts are as hashed; {report.unhashed} before hashes began."
        )
    if report.findings:
        raise typer.Exit(1)


def audit_of(deployed: Deployed) -> AuditSettings:
    """Return where a deployment's audit is. Raises DeploymentError."""
    lacks = f"output {AUDIT_OUTPUT}: take this release"
    return AuditSettings.read(**json.loads(deployed.output("Ingestion", AUDIT_OUTPUT, lacks=lacks)))


# --- receipts of withdrawals -------------------------------------------------------------------------------
File = Annotated[Path, Argument(metavar="FILE", exists=True, dir_okay=False, help="What --json wrote.")]
Points = Annotated[
    bool, Option("--points", help="Name each recovery point that may hold what was withdrawn, and its end.")
]


@receipt.command(name="verify")
def verify_receipts(context: typer.Context, file: File, tenant: Tenant, points: Points = False) -> None:
    """Hold a receipt, or several, against the key of the tenant's deployment; status 1 where one differs.

    With --points against its recovery points: status 1 where one has no end, or a later one than the receipt
    says. Needs kms:GetPublicKey or backup:ListRecoveryPointsByBackupVault, and cloudformation:DescribeStacks.
    """
    options = GlobalOptions.of(context)
    receipts, deployed = read_receipts(file), Deployed.named(options, tenant)
    if points:
        key, no_fault, headings = "points", IN_TIME, ("document", "recovery point", "begun", "ends", "")
        results = _points(receipts, deployed)
    else:
        key, no_fault, headings = "receipts", SIGNED, ("document", "receipt")
        results = _signatures(receipts, deployed)
    rows = [tuple(map(str, result.values())) for result in results]
    if not options.writes({key: results}):
        Terminal().out.print(table(*headings, rows=rows))
    if any(row[-1] != no_fault for row in rows):
        raise typer.Exit(1)


def _signatures(receipts: Sequence[Mapping[str, Any]], deployed: Deployed) -> list[Mapping[str, Any]]:
    """Return a row a receipt: ``{"document_id": "returns-policy", "verified": "as signed"}``."""
    arn = deployed.output("Keys", RECEIPT_KEY_OUTPUT, lacks="key of receipts: take this release")
    public = deployed.aws.call("kms", "get_public_key", KeyId=arn)["PublicKey"]
    key = cast("EllipticCurvePublicKey", load_der_public_key(public))
    return [
        {
            "document_id": str(receipt.get("document_id")),
            "verified": signature_fault(receipt, arn=arn, key=key),
        }
        for receipt in receipts
    ]


def _points(receipts: Sequence[Mapping[str, Any]], deployed: Deployed) -> list[Mapping[str, Any]]:
    """Return the rows of ``points_after`` for all receipts."""
    vault = deployed.output("Data", RECOVERY_VAULT_OUTPUT, lacks="recovery points: take the profile hipaa")
    given = {"BackupVaultName": vault}
    listed = deployed.aws.listed("backup", "list_recovery_points_by_backup_vault", "RecoveryPoints", **given)
    return [point for receipt in receipts for point in points_after(receipt, listed)]


IN_TIME = "in time"
"""The point ends no later than the receipt says."""
_RUN = timedelta(hours=max(each.run_hours for each in RECOVERY.values()))
"""Longest time that a copy takes. One that began less than this after a withdrawal is still counted: AWS does
not say whether a point's time is the begin or the end of its copy."""


def points_after(receipt: Mapping[str, Any], listed: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return a row for each of the ``listed`` recovery points that may hold the receipt's document.

    ``listed``: as ListRecoveryPointsByBackupVault returns them. A row: ``{"document_id": "returns-policy",
    "point": "arn:…", "begun": "2026-11-01T03:00:00+00:00", "ends": "2026-12-06T03:00:00+00:00", "said": "in
    time"}``. Raises ConfigurationError for a receipt without times.
    """
    try:
        withdrawn = datetime.fromisoformat(receipt["withdrawn_at"])
        bounds = [place["until"] for place in receipt["places"] if place["place"] == "recovery_points"]
        bound = min(map(datetime.fromisoformat, bounds), default=None)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"A receipt says no time of withdrawal, or no places: {error}.") from None
    rows: list[Mapping[str, Any]] = []
    for point in sorted(listed, key=lambda point: point["CreationDate"]):
        begun, ends = point["CreationDate"], point.get("CalculatedLifecycle", {}).get("DeleteAt")
        if begun <= withdrawn + _RUN:
            said = IN_TIME if bound and ends and ends <= bound else f"the receipt says {bound}"
            said = "AWS could not delete it" if point["Status"] == "EXPIRED" else said
            named = {"document_id": receipt.get("document_id"), "point": point["RecoveryPointArn"]}
            times = {"begun": begun.isoformat(), "ends": ends.isoformat() if ends else "unknown"}
            rows.append({**named, **times, "said": said})
    return rows


SIGNED = "as signed"
"""The signature is valid."""


def signature_fault(receipt: Mapping[str, Any], *, arn: str, key: EllipticCurvePublicKey) -> str:
    """Return ``SIGNED``, or what is wrong with a receipt's signature."""
    match receipt.get("signature"):
        case {"key": str() as key_arn, "value": str() as value}:
            pass
        case _:
            return "not signed: made on a machine of one's own, or by an older release"
    if key_arn != arn:
        return f"signed by another key: {key_arn}"
    try:
        key.verify(base64.b64decode(value, validate=True), signed_text(receipt), ECDSA(SHA256()))
    except (InvalidSignature, binascii.Error):
        return "changed since it was signed"
    return SIGNED


def read_receipts(file: Path) -> Sequence[Mapping[str, Any]]:
    """Return the receipts of a file: one, or the list that the command line writes. Raises
    ConfigurationError."""
    try:
        match orjson.loads(file.read_bytes()):
            case {"receipts": [*receipts]} if receipts and all(isinstance(item, dict) for item in receipts):
                return receipts
            case {"document_id": str()} as receipt:
                return [receipt]
            case _:
                pass
    except orjson.JSONDecodeError:
        pass
    raise ConfigurationError(
        f"{file}: no receipt. Give what assistant knowledge withdraw --receipt --json wrote, or the body of "
        "GET /v1/documents/ID/receipt."
    )
