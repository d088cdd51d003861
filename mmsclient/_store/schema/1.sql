CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE recipient (
    id INTEGER PRIMARY KEY,
    phone INTEGER NOT NULL UNIQUE, -- the digits of the number in E.164
    state TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'accepted', 'refused', 'failed', 'unknown', 'excluded')),
    line INTEGER NOT NULL,
    run INTEGER NOT NULL, -- in which its line was last read
    batch INTEGER, -- the last
    message_id TEXT,
    exclusion TEXT,
    reason TEXT
);
CREATE INDEX recipient_by_message ON recipient (message_id) WHERE message_id IS NOT NULL;
CREATE TABLE aside ( -- rows of the list without a phone of their own
    line INTEGER NOT NULL,
    number TEXT NOT NULL,
    exclusion TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (line, number)
) WITHOUT ROWID;
CREATE TABLE excluded (phone INTEGER PRIMARY KEY, exclusion TEXT NOT NULL);
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    recipients INTEGER NOT NULL,
    started REAL NOT NULL, -- Unix seconds
    ended REAL,
    accepted INTEGER,
    credits TEXT,
    error TEXT
);
CREATE TABLE delivery ( -- what delivery reports said, of other messages too: one may come before its call's answer
    message_id TEXT NOT NULL,
    phone INTEGER NOT NULL, -- 0 where the report names none
    status TEXT NOT NULL,
    final INTEGER NOT NULL,
    reported REAL NOT NULL, -- Unix seconds
    PRIMARY KEY (message_id, phone)
) WITHOUT ROWID;
PRAGMA application_id = 1296913251;
PRAGMA user_version = 1;
