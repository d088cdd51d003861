CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE send (
    key TEXT PRIMARY KEY,
    claim TEXT NOT NULL UNIQUE, -- another one each time that the key is claimed
    text TEXT NOT NULL, -- of what was sent: this and the next three are digests
    subject TEXT NOT NULL,
    image TEXT NOT NULL,
    recipients TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('sending', 'accepted', 'refused', 'failed', 'unknown')),
    sender TEXT NOT NULL, -- the token in the name of a lock file
    claimed REAL NOT NULL, -- Unix seconds
    ended REAL,
    result TEXT -- JSON
);
CREATE INDEX send_under_way ON send (sender) WHERE state = 'sending';
CREATE INDEX send_by_age ON send (ended);
PRAGMA application_id = 1296913260;
PRAGMA user_version = 1;
