BEGIN TRANSACTION;
CREATE TABLE contexts (
    token_id TEXT PRIMARY KEY, answer_id TEXT NOT NULL, key TEXT, expires_at REAL NOT NULL
);
INSERT INTO "contexts" VALUES('7777777777777777777777777777777777777777777777777777777777777777','a0',NULL,4102444800.0);
CREATE TABLE logs (
    answer_id TEXT PRIMARY KEY, agent TEXT NOT NULL, request_hash TEXT NOT NULL, key TEXT,
    context TEXT NOT NULL, expires_at REAL NOT NULL, UNIQUE (agent, key)
);
INSERT INTO "logs" VALUES('a0','ana','hash-1','k1','',4102445700.0);
CREATE TABLE signals (
    answer_id TEXT PRIMARY KEY, cancelled INTEGER NOT NULL, readers INTEGER NOT NULL, expires_at REAL NOT NULL
);
INSERT INTO "signals" VALUES('a0',1,0,4102444800.0);
CREATE TABLE store_format (
    only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL, readable_from INTEGER NOT NULL
);
INSERT INTO "store_format" VALUES(1,1,1);
CREATE INDEX logs_by_expiry ON logs (expires_at);
CREATE INDEX signals_by_expiry ON signals (expires_at);
CREATE INDEX contexts_by_expiry ON contexts (expires_at);
COMMIT;