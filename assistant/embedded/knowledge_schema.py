"""The tables of ``queue.sqlite``: documents' states and the ingestion queues of one tenant."""

KNOWLEDGE_SCHEMA = """
CREATE TABLE IF NOT EXISTS states (
    document_id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    received_at TEXT NOT NULL,
    status TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS states_by_state ON states (state, document_id);
CREATE TABLE IF NOT EXISTS queued (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    document_id TEXT NOT NULL,
    visible_at_s REAL NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    receipt TEXT,
    receiver TEXT,
    dead INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS queued_waiting ON queued (queue, dead, number);
CREATE UNIQUE INDEX IF NOT EXISTS queued_by_receipt ON queued (receipt) WHERE receipt IS NOT NULL;
"""
