"""``assistant aws receipt``: hold receipts of withdrawals against the deployment's key."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import orjson
import typer
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from typer import Argument

from assistant.domain.documents import signed_text
from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployed_names import RECEIPT_KEY_OUTPUT
from assistant.terminal.account import Deployed
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

app = typer.Typer(no_args_is_help=True, help="Verify receipts of withdrawals.")
File = Annotated[Path, Argument(metavar="FILE", exists=True, dir_okay=False, help="What --json wrote.")]


@app.callback()
def group() -> None:
    """Verify that a receipt is as the deployment made it."""


@app.command()
def verify(context: typer.Context, file: File, tenant: Tenant) -> None:
    """Hold a receipt, or several, against the key of the tenant's deployment; status 1 where one differs.

    Needs kms:GetPublicKey and cloudformation:DescribeStacks.
    """
    options = GlobalOptions.of(context)
    receipts, deployed = read_receipts(file), Deployed.named(options, tenant)
    arn = deployed.output("Keys", RECEIPT_KEY_OUTPUT, lacks="key of receipts: take this release")
    public = deployed.aws.call("kms", "get_public_key", KeyId=arn)["PublicKey"]
    key = cast("EllipticCurvePublicKey", load_der_public_key(public))
    found = [(str(each.get("document_id")), judged(each, arn=arn, key=key)) for each in receipts]
    if not options.writes({"receipts": [{"document_id": name, "verified": said} for name, said in found]}):
        Terminal().out.print(table("document", "receipt", rows=found))
    if any(said != SIGNED for _, said in found):
        raise typer.Exit(1)


SIGNED = "as signed"


def judged(receipt: Mapping[str, Any], *, arn: str, key: EllipticCurvePublicKey) -> str:
    """Return ``SIGNED``, or what is wrong with a receipt's signature."""
    match receipt.get("signature"):
        case {"key": str() as signer, "value": str() as value}:
            pass
        case _:
            return "not signed: made on a machine of one's own, or by an older release"
    if signer != arn:
        return f"signed by another key: {signer}"
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
            case {"receipts": [*receipts]} if receipts and all(isinstance(one, dict) for one in receipts):
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
