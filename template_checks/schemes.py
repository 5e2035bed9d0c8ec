"""Addresses in values, by their schemes: which of them are plaintext."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

from template_checks.values import texts_of_json

_ENCRYPTED = {
    "amqp": "amqps",
    "bolt": "bolt+s",
    "coap": "coaps",
    "ftp": "sftp",
    "grpc": "grpcs",
    "h2c": "https",
    "http": "https",
    "imap": "imaps",
    "ldap": "ldaps",
    "memcached": "a TLS listener",
    "mqtt": "mqtts",
    "nats": "tls",
    "neo4j": "neo4j+s",
    "plaintext": "SSL",
    "pop3": "pop3s",
    "redis": "rediss",
    "rtsp": "rtsps",
    "sasl_plaintext": "SASL_SSL",
    "sip": "sips",
    "smtp": "smtps",
    "stomp": "stomp+ssl",
    "syslog": "syslog+tls",
    "tcp": "tls",
    "telnet": "ssh",
    "tftp": "sftp",
    "udp": "dtls",
    "valkey": "valkeys",
    "ws": "wss",
    "xmpp": "xmpps",
}
"""A scheme without TLS = the one with it."""
_BY_QUERY = ("cockroachdb", "mariadb", "mongodb", "mysql", "postgres", "postgresql", "redshift", "sqlserver")
"""Schemes of which a parameter says whether TLS is used."""
_SWITCHES = ("encrypt", "ssl", "sslmode", "ssl-mode", "ssl_mode", "tls", "usessl", "use_ssl", "security")
_OFF = ("0", "disable", "disabled", "false", "no", "none", "off", "plaintext", "insecure")
_OPTIONAL = ("allow", "prefer", "preferred", "optional")
"""Modes in which a client goes on in plaintext where the server offers no TLS."""
_ON_THE_TASK = re.compile(r"^(?:localhost|127\.[\d.]+|::1|0\.0\.0\.0|169\.254\.[\d.]+)$")
_ADDRESS = re.compile(r"^(?:jdbc:|[a-z]+\+(?=[a-z]+://))?([a-z][a-z0-9+.-]*)://", re.I)
_NAMES_TLS = re.compile(
    r"(?:^|_)(?:TLS|SSL|HTTPS|MTLS)(?:_(?:ENABLED|ENABLE|MODE|ON|REQUIRED|VERIFY|ENFORCED))?$", re.I
)
_WITHOUT = re.compile(r"(?:DISABLE|INSECURE|SKIP|NO|WITHOUT|ALLOW_PLAIN|PLAINTEXT)(?:_|$)", re.I)
_TURNS_OFF = re.compile(
    r"(?:^|_)(?:(?:DISABLE|SKIP|NO|WITHOUT)_(?:TLS|SSL|HTTPS)(?:_VERIFY)?|(?:TLS|SSL)_(?:DISABLED?|SKIP_VERIFY|INSECURE))$"
    r"|_INSECURE$",
    re.I,
)


def plaintext_in(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield what a variable sends in plaintext: "to host by scheme", with what to write instead.

    A value is read as an address, a list of addresses, or JSON with addresses in it.
    """
    for variable, said in _leaves(name, value):
        yield from _of_address(said)
        yield from _of_switch(variable, said)


def _leaves(name: str, value: str) -> Iterator[tuple[str, str]]:
    if value.lstrip().startswith(("{", "[")):
        try:
            document = json.loads(value)
        except ValueError:
            document = None
        if document is not None:
            yield from texts_of_json(name, document)
            return
    yield name, value


def _of_address(value: str) -> Iterator[tuple[str, str]]:
    if _ADDRESS.match(value.strip()) is None:
        return  # a sentence that has an address in it calls nothing
    for address in re.split(r"[\s,;|]+", value.strip()):
        match = _ADDRESS.match(address)
        if match is None:
            continue
        scheme = match[1].lower()
        try:
            parts = urlsplit(address[address.lower().index(f"{scheme}://") :])
            host, query = parts.hostname or "", parts.query
        except ValueError:
            host, query = address, ""
        if _ON_THE_TASK.match(host):
            continue
        instead = _ENCRYPTED.get(scheme) or _asked_without(scheme, query)
        if instead:
            yield f"calls {host} by {scheme}", f"Use an address with {instead}."


def _asked_without(scheme: str, query: str) -> str | None:
    if scheme.partition("+")[0] not in _BY_QUERY:
        return None
    for key, said in parse_qsl(query):
        if key.lower() in _SWITCHES and said.lower() in (*_OFF, *_OPTIONAL):
            return f"{key} that requires TLS"
    return None


def _of_switch(name: str, value: str) -> Iterator[tuple[str, str]]:
    if _NAMES_TLS.search(name) and not _WITHOUT.search(name) and value.strip().lower() in _OFF:
        yield f"has {name} {value}", f"Switch {name} on."
    if _TURNS_OFF.search(name) and value.strip().lower() in ("1", "true", "yes", "on"):
        yield f"has {name} {value}", f"Leave {name} out."
    if re.fullmatch(r"(?:PG)?SSL_?MODE|NODE_TLS_REJECT_UNAUTHORIZED", name, re.I) and value.lower() in (
        *_OFF,
        *_OPTIONAL,
    ):
        yield f"has {name} {value}", f"Set {name} to what requires TLS."
    if re.search(r"(?:^|_)(?:SECURITY_)?PROTOCOL$", name, re.I) and value.lower() in (
        "http",
        "plaintext",
        "sasl_plaintext",
    ):
        yield f"has {name} {value}", f"Set {name} to one with TLS."
