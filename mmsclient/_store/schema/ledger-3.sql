-- No column: programs of earlier versions that have the file open go on writing `heard`.
CREATE TABLE heard_kind ( -- of the messages in `heard`, mms or sms, where a report or a reply tells it
    phone INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    PRIMARY KEY (phone, message_id)
) WITHOUT ROWID;
PRAGMA user_version = 3;
