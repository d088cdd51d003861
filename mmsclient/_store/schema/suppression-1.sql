CREATE TABLE suppressed (
    phone INTEGER PRIMARY KEY, -- the digits of the number in E.164
    reason TEXT NOT NULL,
    added REAL NOT NULL -- Unix seconds
);
CREATE TABLE unreadable ( -- numbers that were to be suppressed, in a spelling that nobody can compare
    given TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    added REAL NOT NULL
) WITHOUT ROWID;
PRAGMA application_id = 1296913272;
PRAGMA user_version = 1;
