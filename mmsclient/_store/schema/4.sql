CREATE TABLE former_call ( -- calls that may have been carried out, of recipients that were to be sent to again
    recipient INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    PRIMARY KEY (recipient, batch)
) WITHOUT ROWID;
INSERT INTO former_call SELECT id, batch FROM recipient
WHERE state = 'pending' AND reason = 'it is sent again, though it may have been sent before' AND batch IS NOT NULL;
PRAGMA user_version = 4;
