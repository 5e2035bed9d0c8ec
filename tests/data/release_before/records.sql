CREATE TABLE answers (
    number INTEGER PRIMARY KEY, answer_id TEXT NOT NULL UNIQUE, conversation_id TEXT NOT NULL,
    asked_at TEXT NOT NULL, body TEXT NOT NULL
);
CREATE TABLE interrupted (
    number INTEGER PRIMARY KEY, answer_id TEXT NOT NULL UNIQUE, conversation_id TEXT NOT NULL,
    asked_at TEXT NOT NULL, body TEXT NOT NULL
);
CREATE INDEX interrupted_by_conversation ON interrupted (conversation_id, asked_at, number);
CREATE VIEW known AS
    SELECT * FROM answers UNION ALL
    SELECT * FROM interrupted WHERE answer_id NOT IN (SELECT answer_id FROM answers);
CREATE INDEX answers_by_conversation ON answers (conversation_id, asked_at, number);
CREATE TABLE verdicts (
    number INTEGER PRIMARY KEY, answer_id TEXT NOT NULL, id TEXT NOT NULL UNIQUE,
    agent TEXT NOT NULL, content TEXT NOT NULL, body TEXT NOT NULL
);
CREATE INDEX verdicts_by_answer ON verdicts (answer_id, number);
CREATE TABLE sends (
    number INTEGER PRIMARY KEY, answer_id TEXT NOT NULL, id TEXT NOT NULL UNIQUE,
    agent TEXT NOT NULL, content TEXT NOT NULL, body TEXT NOT NULL
);
CREATE INDEX sends_by_answer ON sends (answer_id, number);
CREATE TABLE acts (
    number INTEGER PRIMARY KEY, answer_id TEXT NOT NULL, id TEXT NOT NULL UNIQUE,
    agent TEXT NOT NULL, content TEXT NOT NULL, body TEXT NOT NULL
);
CREATE INDEX acts_by_answer ON acts (answer_id, number);
CREATE TABLE accesses (number INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE live_reads (number INTEGER PRIMARY KEY, at TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX live_reads_in_order ON live_reads (at, json_extract(body, '$.read_id'));
CREATE INDEX live_reads_by_subject
    ON live_reads (json_extract(body, '$.subject'), at, json_extract(body, '$.read_id'));
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, answer_id TEXT NOT NULL,
    row INTEGER NOT NULL
);
CREATE TRIGGER answers_no_update BEFORE update ON answers BEGIN SELECT RAISE(ABORT, 'answers is append-only'); END;
CREATE TRIGGER answers_no_delete BEFORE delete ON answers BEGIN SELECT RAISE(ABORT, 'answers is append-only'); END;
CREATE TRIGGER interrupted_no_update BEFORE update ON interrupted BEGIN SELECT RAISE(ABORT, 'interrupted is append-only'); END;
CREATE TRIGGER interrupted_no_delete BEFORE delete ON interrupted BEGIN SELECT RAISE(ABORT, 'interrupted is append-only'); END;
CREATE TRIGGER verdicts_no_update BEFORE update ON verdicts BEGIN SELECT RAISE(ABORT, 'verdicts is append-only'); END;
CREATE TRIGGER verdicts_no_delete BEFORE delete ON verdicts BEGIN SELECT RAISE(ABORT, 'verdicts is append-only'); END;
CREATE TRIGGER sends_no_update BEFORE update ON sends BEGIN SELECT RAISE(ABORT, 'sends is append-only'); END;
CREATE TRIGGER sends_no_delete BEFORE delete ON sends BEGIN SELECT RAISE(ABORT, 'sends is append-only'); END;
CREATE TRIGGER acts_no_update BEFORE update ON acts BEGIN SELECT RAISE(ABORT, 'acts is append-only'); END;
CREATE TRIGGER acts_no_delete BEFORE delete ON acts BEGIN SELECT RAISE(ABORT, 'acts is append-only'); END;
CREATE TRIGGER accesses_no_update BEFORE update ON accesses BEGIN SELECT RAISE(ABORT, 'accesses is append-only'); END;
CREATE TRIGGER accesses_no_delete BEFORE delete ON accesses BEGIN SELECT RAISE(ABORT, 'accesses is append-only'); END;
CREATE TRIGGER live_reads_no_update BEFORE update ON live_reads BEGIN SELECT RAISE(ABORT, 'live_reads is append-only'); END;
CREATE TRIGGER live_reads_no_delete BEFORE delete ON live_reads BEGIN SELECT RAISE(ABORT, 'live_reads is append-only'); END;
