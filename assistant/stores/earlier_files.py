"""Moves the rows of SQLite files of earlier releases (format 2 and before) into items of a ``SqliteTable``.

Those releases had a table for each kind of record; now a file has one table ``items`` with ``pk``, ``sk``,
the JSON ``item`` and the attributes of its indexes. Example: the row of ``states`` with the document
``wiki:refill`` becomes pk ``documents``, sk ``wiki:refill``. The keys are those that ``records.py``,
``desk.py``, ``documents.py``, ``events.py`` and the options' stores write today, listed in their docstrings:
they must stay equal.

``SqliteFile`` calls ``move_tables`` when it opens a file, in one transaction, so the process may be killed at
any moment. After a way back an earlier release makes and fills its tables again; the next move adds their
rows, and an item that exists already stays.
"""

# ruff: noqa: S608 (our own names)

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Mapping
from datetime import datetime

from assistant.domain.answers import AnswerRecord
from assistant.domain.desk import JOINED
from assistant.stores.events import key_of_claim
from assistant.stores.formats import join_row
from assistant.stores.table import sortable

_INTO = "INSERT OR IGNORE INTO items (pk, sk, item"
"""Begins a statement; the caller adds columns of an index, and the SELECT."""
_BODY = "json_patch(json_object('body', body), json_object('newer', newer))"
"""SQL for the JSON of the columns ``body`` and ``newer`` (``formats.py``). ``json_patch`` drops an attribute
whose value is NULL."""
_AT = "_sortable(json_extract(body, '$.at'))"
"""Names in SQL that begin with ``_`` are the functions of this module, which ``move_tables`` registers."""
_CASE = "coalesce(json_extract(newer, '$.body'), json_extract(body, '$.body'))"
_CASE_LIST = (
    f"""iif(json_extract({_CASE}, '$.joined') IS NULL, json_extract({_CASE}, '$.state'), '{JOINED}')"""
)
"""The list of a desk's case, as ``Case.listed``."""
# Temporary names in it: place = number of an access, sight = the answer whose sight it is. An answer's sight
# is made from its row where no access was recorded for it.
_RECORDS = f"""
CREATE TABLE IF NOT EXISTS places (answer_id TEXT, kind TEXT, name TEXT);
CREATE TABLE IF NOT EXISTS written_until (answer_id TEXT, until REAL);
CREATE TABLE IF NOT EXISTS chain
    (day TEXT, writer TEXT, sequence INTEGER, link TEXT, start TEXT, access INTEGER, live_read INTEGER);
CREATE INDEX chain_by_access ON chain (access);
CREATE INDEX chain_by_live_read ON chain (live_read);
CREATE INDEX outbox_by_row ON outbox (kind, row);
CREATE INDEX outbox_by_answer ON outbox (kind, answer_id);
CREATE TABLE sights AS SELECT number, json_extract(body, '$.subject_id') AS answer_id FROM accesses
    WHERE json_extract(body, '$.kind') = 'asked';
CREATE INDEX sights_by_answer ON sights (answer_id, number);
CREATE INDEX sights_by_number ON sights (number);
{_INTO}, listed, listed_at) SELECT 'answer#' || answer_id, 'answer', {_BODY}, iif(queued, 'outbox', NULL),
    iif(queued, _sortable(json_extract(body, '$.finished_at')) || '#' || answer_id, NULL)
    FROM (SELECT *, (SELECT 1 FROM outbox WHERE kind = 'answer' AND answer_id = one.answer_id) AS queued
    FROM answers AS one);
{_INTO}) SELECT 'answer#' || answer_id, 'interrupted', json_patch({_BODY}, json_object('until',
    (SELECT until FROM written_until WHERE answer_id = one.answer_id))) FROM interrupted AS one;
{_INTO}) SELECT 'conversation#' || conversation_id,
    _sortable(json_extract(body, '$.asked_at')) || '#' || answer_id, json_object('answer_id', answer_id)
    FROM (SELECT * FROM answers UNION ALL SELECT * FROM interrupted);
{_INTO}) SELECT 'access#' || substr(at, 1, 10), at || '#asked#' || answer_id || kind,
    json_object('body', _sight(body, newer))
    FROM (SELECT *, _sortable(json_extract(body, '$.asked_at')) AS at
    FROM (SELECT *, '#answer' AS kind FROM answers UNION ALL SELECT *, '#interrupted' FROM interrupted)
    WHERE answer_id NOT IN (SELECT answer_id FROM sights));
{_INTO}) SELECT 'access#' || substr(at, 1, 10), at || '#' ||
    CASE WHEN sight IS NOT NULL THEN 'asked#' || sight || iif(sight IN (SELECT answer_id FROM answers)
        AND NOT EXISTS (SELECT 1 FROM sights WHERE answer_id = sight AND number > place),
        '#answer', '#interrupted')
    ELSE coalesce(writer || '#' || printf('%08d', sequence), printf('%012d', place)) END,
    json_patch({_BODY}, json_object('link', link)) FROM (
        SELECT accesses.number AS place, body, newer, {_AT} AS at, sights.answer_id AS sight, chain.*
        FROM accesses LEFT JOIN chain ON access = accesses.number
        LEFT JOIN sights ON sights.number = accesses.number);
{_INTO}) SELECT 'answer#' || answer_id, 'place#' || kind || '#' || printf('%04d',
    row_number() OVER (PARTITION BY answer_id, kind ORDER BY name) - 1), json_object('name', name)
    FROM places;
{_INTO}) SELECT 'live#' || substr(at, 1, 10), at || '#' || json_extract(body, '$.read_id'),
    json_patch(json_object('body', body), json_object('link', link))
    FROM live_reads LEFT JOIN chain ON live_read = number;
{_INTO}) SELECT 'live-of#' || json_extract(body, '$.subject'), at || '#' || json_extract(body, '$.read_id'),
    json_object('body', body) FROM live_reads WHERE json_extract(body, '$.subject') IS NOT NULL;
{_INTO}) SELECT 'access#' || day || '#writers', writer, json_object('body', start, 'link', link)
    FROM chain WHERE start IS NOT NULL;
DROP VIEW known""" + "".join(
    f""";
{_INTO}, listed, listed_at) SELECT '{kind}#' || id, 'once', {_BODY},
    iif((SELECT 1 FROM outbox WHERE kind = '{kind}' AND row = one.number), 'outbox', '{kind}'),
    {_AT} || '#' || id FROM {table} AS one;
{_INTO}) SELECT 'answer#' || answer_id, '{kind}#' || {_AT} || '#' || id, {_BODY} FROM {table};
DROP TABLE {table}"""
    for table, kind in (("verdicts", "verdict"), ("sends", "sent"), ("acts", "act"))
)
"""Records, in the order of the statements:

1. make tables that the oldest files lack, indexes for the joins, and ``sights``: the answer of each recorded
   access of the kind ``asked`` (what an answer showed to its agent), by the access's number;
2. move answers, interrupted answers, and the place of both in their conversations;
3. make the sight of each answer that has no recorded one from the answer's row;
4. move recorded accesses: a sight is named by its answer, the answer's last one as that of the record; any
other is named by writer and sequence in its chain, or by its number where it has no chain; 5. move places,
reads of live systems (by day, and again by subject), and start records of chains; 6. move verdicts, sent
texts and acts, each once under its id and once into its answer's list.
"""
_DESK = f"""
{_INTO}) SELECT 'item#' || kind || '#' || item_id, 'revision#' || printf('%08d', revision), {_BODY}
    FROM revisions;
{_INTO}, listed, listed_at) SELECT 'newest#' || kind, item_id,
    json_patch({_BODY}, json_object('revision', max(revision))),
    iif(kind = 'case', 'case#' || {_CASE_LIST}, NULL),
    iif(kind = 'case', {_AT} || '#' || item_id, NULL) FROM revisions GROUP BY kind, item_id;
{_INTO}) SELECT 'version', 'version', json_object('n', count(*)) FROM revisions HAVING count(*) > 0"""
"""Revisions, the pointer to the newest of each item, and the version. With ``max(revision)`` SQLite takes the
other columns of a group from the row with the greatest revision."""
_STATES = f"""
{_INTO}, state) SELECT 'documents', document_id, json_object('content_hash', content_hash,
    'received_at', received_at, 'body', status), state FROM states"""
_SOURCE_RUNS = f"{_INTO}) SELECT 'source-runs', source, json_object('body', body) FROM source_runs"
_CLAIMS = f"""
CREATE TABLE IF NOT EXISTS contexts (token_id TEXT, answer_id TEXT, key TEXT, expires_at REAL);
{_INTO}, expires_at) SELECT _claim_key(agent, key), 'key', json_object('answer_id', answer_id,
    'request_hash', request_hash), expires_at FROM logs WHERE key IS NOT NULL;
{_INTO}, expires_at) SELECT 'context#' || token_id, 'context', json_patch(json_object('answer_id', answer_id),
    json_object('key', key)), expires_at FROM contexts;
{_INTO}, expires_at) SELECT 'log#' || answer_id, 'signals', json_object('cancelled', json('true')), expires_at
    FROM signals WHERE cancelled"""
_SENT_VALUES = f"""
{_INTO}, expires_at) SELECT 'values#' || answer_id, send_id, json_object('values', json(body)), expires_at
    FROM sent_values"""
_ERASURE_KEYS = f"""
{_INTO}) SELECT 'erasure#' || subject, 'key', json_patch('{{}}', json_object('destroyed_at', destroyed_at,
    'key', iif(key IS NULL, NULL, json_object('B', _base64(key))))) FROM erasure_keys"""
"""``{"B": …}`` is how ``SqliteTable`` writes bytes into JSON."""
_MOVES: Mapping[str, tuple[str, str]] = {
    "answers": (_RECORDS, "answers interrupted written_until places accesses live_reads chain sights outbox"),
    "revisions": (_DESK, "revisions"),
    "states": (_STATES, "states"),
    "source_runs": (_SOURCE_RUNS, "source_runs"),
    "logs": (_CLAIMS, "logs signals contexts"),
    "sent_values": (_SENT_VALUES, "sent_values"),
    "erasure_keys": (_ERASURE_KEYS, "erasure_keys"),
}
"""By a table that every such file has: the statements that make items of its rows, separated by ``;``, and
the tables to drop afterwards."""


def move_tables(connection: sqlite3.Connection) -> bool:
    """Make items of the rows of earlier releases, in the open transaction; return whether there were any.

    Its functions are called by SQL under their own names: rename them in the statements too.
    """
    tables = _names(connection, "SELECT name FROM sqlite_master WHERE type = 'table'")
    moves = [move for table, move in _MOVES.items() if table in tables]
    for function in (_sortable, _sight, _claim_key, _base64):
        parameters = function.__code__.co_argcount
        connection.create_function(function.__name__, parameters, function, deterministic=True)
    for table in ("answers", "interrupted", "verdicts", "sends", "acts", "accesses", "revisions"):
        if table in tables and "newer" not in _names(
            connection, f"SELECT name FROM pragma_table_info('{table}')"
        ):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN newer TEXT")
    for script, dropped in moves:
        for statement in (*script.split(";"), *(f"DROP TABLE {table}" for table in dropped.split())):
            connection.execute(statement)
    return bool(moves)


def _names(connection: sqlite3.Connection, select: str) -> set[str]:
    """Return the values of a statement's only column."""
    return {str(name) for (name,) in connection.execute(select)}


def _sortable(at: str) -> str:
    """Return an ISO 8601 time as ``table.sortable`` writes it."""
    return sortable(datetime.fromisoformat(at))


def _sight(body: str, newer: str | None) -> str:
    """Return the JSON of the access entry that an answer's row stands for."""
    return AnswerRecord.model_validate_json(join_row(body, newer)).sight().model_dump_json()


def _claim_key(agent: str, key: str) -> str:
    return key_of_claim(agent, key)[0]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
