BEGIN TRANSACTION;
CREATE TABLE sent_values (
    answer_id TEXT NOT NULL, send_id TEXT NOT NULL, body TEXT NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (answer_id, send_id)
);
INSERT INTO "sent_values" VALUES('a0','s0','["µ","24"]',4102444800.0);
CREATE TABLE store_format (
    only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL, readable_from INTEGER NOT NULL
);
INSERT INTO "store_format" VALUES(1,1,1);
CREATE INDEX sent_values_by_expiry ON sent_values (expires_at);
COMMIT;