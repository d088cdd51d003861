CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    first_batch INTEGER NOT NULL, -- its batches are those from here to the next run's first
    balance_before TEXT, -- credits, by the account call
    balance_after TEXT
);
CREATE TABLE evidence ( -- what was heard of recipients under ids that are not those of their accepted messages
    phone INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    heard REAL NOT NULL, -- Unix seconds, the first time
    PRIMARY KEY (phone, message_id)
) WITHOUT ROWID;
INSERT INTO evidence
SELECT delivery.phone, delivery.message_id, delivery.reported
FROM delivery JOIN recipient ON recipient.phone = delivery.phone
WHERE NOT (recipient.state = 'accepted' AND recipient.message_id IS delivery.message_id);
PRAGMA user_version = 2;
