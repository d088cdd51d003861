PRAGMA journal_mode = WAL; -- stays with the file
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE picture (
    sha256 TEXT PRIMARY KEY,
    data BLOB NOT NULL
);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    subject TEXT NOT NULL,
    picture TEXT NOT NULL, -- its hash; the picture goes when no order is waiting, sending or unknown
    message TEXT NOT NULL, -- a digest of the three: equal messages go out together
    state TEXT NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'sending', 'accepted', 'refused', 'unknown', 'cancelled')),
    put REAL NOT NULL, -- Unix seconds
    not_before REAL,
    due REAL NOT NULL, -- not sent before
    attempts INTEGER NOT NULL DEFAULT 0,
    together INTEGER, -- most orders in its call
    claim TEXT, -- the last
    claimed REAL,
    doubted REAL, -- when the first call was claimed that an operator had sent again, though it was unknown
    proven INTEGER NOT NULL DEFAULT 0, -- accepted by evidence, and not by an answer
    ended REAL,
    number INTEGER UNIQUE, -- of its end, in the order of the ends
    result TEXT -- JSON
);
CREATE INDEX outbox_waiting ON outbox (due, id) WHERE state = 'waiting';
CREATE INDEX outbox_equal ON outbox (message, due, id) WHERE state = 'waiting';
CREATE INDEX outbox_by_claim ON outbox (claim) WHERE claim IS NOT NULL;
CREATE INDEX outbox_by_picture ON outbox (picture) WHERE state IN ('waiting', 'sending', 'unknown');
CREATE INDEX outbox_unsettled ON outbox (id)
    WHERE state = 'unknown' OR proven OR state = 'waiting' AND doubted IS NOT NULL;
CREATE INDEX outbox_by_age ON outbox (ended) WHERE ended IS NOT NULL;
CREATE TABLE recipient (
    outbox INTEGER NOT NULL REFERENCES outbox ON DELETE CASCADE,
    phone INTEGER NOT NULL, -- the digits of the number in E.164
    position INTEGER NOT NULL,
    state TEXT, -- NULL as long as it is what its order is
    message_id TEXT,
    proven INTEGER NOT NULL DEFAULT 0, -- the id is that of a report or a reply, and not of an answer
    PRIMARY KEY (outbox, phone)
) WITHOUT ROWID;
CREATE INDEX recipient_by_phone ON recipient (phone);
CREATE INDEX recipient_by_message ON recipient (message_id) WHERE message_id IS NOT NULL;
CREATE TABLE heard ( -- reports and replies under ids that no answer had named
    phone INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    at REAL NOT NULL, -- the first time
    PRIMARY KEY (phone, message_id)
) WITHOUT ROWID;
PRAGMA application_id = 1296913263;
PRAGMA user_version = 1;
