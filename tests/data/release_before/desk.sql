CREATE TABLE revisions (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, item_id TEXT NOT NULL, revision INTEGER NOT NULL,
    body TEXT NOT NULL, UNIQUE (kind, item_id, revision)
);
CREATE INDEX revisions_by_kind ON revisions (kind, number);
CREATE TRIGGER revisions_no_update BEFORE UPDATE ON revisions
    BEGIN SELECT RAISE(ABORT, 'revisions is append-only'); END;
CREATE TRIGGER revisions_no_delete BEFORE DELETE ON revisions
    BEGIN SELECT RAISE(ABORT, 'revisions is append-only'); END;
