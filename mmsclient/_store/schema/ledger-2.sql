-- `proven`: accepted by evidence, and not by an answer
ALTER TABLE send ADD COLUMN proven INTEGER NOT NULL DEFAULT 0;
CREATE TABLE recipient ( -- to whom a key was claimed for
    phone INTEGER NOT NULL, -- the digits of the number in E.164
    claim TEXT NOT NULL,
    PRIMARY KEY (phone, claim)
) WITHOUT ROWID;
CREATE INDEX recipient_by_claim ON recipient (claim);
CREATE TABLE message ( -- what an answer named
    message_id TEXT NOT NULL,
    phone INTEGER NOT NULL, -- 0 where it names none
    claim TEXT NOT NULL,
    PRIMARY KEY (message_id, phone, claim)
) WITHOUT ROWID;
CREATE INDEX message_by_claim ON message (claim);
CREATE TABLE heard ( -- reports and replies under ids that no answer had named
    phone INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    at REAL NOT NULL, -- Unix seconds, of the first
    PRIMARY KEY (phone, message_id)
) WITHOUT ROWID;
PRAGMA user_version = 2;
