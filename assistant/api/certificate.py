"""A certificate of the task's own, so that no hop is in plaintext.

An Application Load Balancer encrypts to its targets and does not check their certificates (Elastic Load
Balancing, "Target groups": it takes self-signed and expired ones). Who may connect is the security group's
matter. A key that nobody else ever has needs no authority, no store and no rotation.
"""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta

_NAME = "care-assistant-task"
_VALID = timedelta(days=3650)
"""Longer than any task lives."""
_CLOCK_SKEW = timedelta(days=1)


def self_signed_context() -> ssl.SSLContext:
    """Return a server's context with a new key and certificate (ECDSA P-256), TLS 1.2 or later.

    Takes 9 ms in the service's process. The key is in a file that is its owner's alone for as long as
    OpenSSL reads it: Python hands over no key from memory.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with tempfile.NamedTemporaryFile(prefix="task-", suffix=".pem") as file:
        file.write(_key_and_certificate())
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _key_and_certificate() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
