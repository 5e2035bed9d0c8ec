BEGIN TRANSACTION;
CREATE TABLE queued (
    number INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, document_id TEXT NOT NULL,
    visible_at_s REAL NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, receipt TEXT, receiver TEXT,
    dead INTEGER NOT NULL DEFAULT 0
);
INSERT INTO "queued" VALUES(1,'documents','live',1.79569151778275609013e+09,0,NULL,NULL,0);
CREATE TABLE states (
    document_id TEXT PRIMARY KEY, state TEXT NOT NULL, content_hash TEXT NOT NULL,
    received_at TEXT NOT NULL, status TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "states" VALUES('gone','withdrawn','hash-1','2026-11-20T12:00:00+00:00','{"document_id":"gone","title":"Refill too soon","state":"withdrawn","content_hash":"hash-1","live_content_hash":null,"source":"","type":"","url":null,"owner":null,"effective_date":null,"received_at":"2026-11-20T12:00:00Z","updated_at":"2026-11-20T12:00:00Z","passage_count":0,"token_count":0,"failure_code":null,"failure_reason":null,"knowledge_source":"","origin":null,"labels":null,"live_labels":null}');
INSERT INTO "states" VALUES('live','live','hash-1','2026-11-20T12:00:00+00:00','{"document_id":"live","title":"Refill too soon","state":"live","content_hash":"hash-1","live_content_hash":null,"source":"","type":"","url":null,"owner":null,"effective_date":null,"received_at":"2026-11-20T12:00:00Z","updated_at":"2026-11-20T12:00:00Z","passage_count":0,"token_count":0,"failure_code":null,"failure_reason":null,"knowledge_source":"","origin":null,"labels":null,"live_labels":null}');
CREATE TABLE store_format (
    only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL, readable_from INTEGER NOT NULL
);
INSERT INTO "store_format" VALUES(1,1,1);
CREATE INDEX states_by_state ON states (state, document_id);
CREATE INDEX queued_waiting ON queued (queue, dead, number);
CREATE UNIQUE INDEX queued_by_receipt ON queued (receipt) WHERE receipt IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('queued',1);
COMMIT;