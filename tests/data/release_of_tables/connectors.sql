BEGIN TRANSACTION;
CREATE TABLE source_runs (source TEXT PRIMARY KEY, body TEXT NOT NULL);
INSERT INTO "source_runs" VALUES('source','{"source":"source","into":"","started_at":"2026-11-20T12:00:00Z","ended_at":null,"cursor":null,"changed":0,"unchanged":0,"deleted":0,"refused":0,"errors":[],"succeeded_at":null}');
CREATE TABLE store_format (
    only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL, readable_from INTEGER NOT NULL
);
INSERT INTO "store_format" VALUES(1,1,1);
COMMIT;