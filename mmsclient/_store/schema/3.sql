CREATE TABLE message ( -- what a campaign has made of its template, each text once
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE, -- SHA-256 of text and subject
    text TEXT NOT NULL,
    subject TEXT NOT NULL
);
-- `message`: what the recipient gets, NULL where all get the same
ALTER TABLE recipient ADD COLUMN message INTEGER;
CREATE INDEX recipient_by_text ON recipient (message, id) WHERE message IS NOT NULL;
PRAGMA user_version = 3;
