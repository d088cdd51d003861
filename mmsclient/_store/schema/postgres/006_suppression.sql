CREATE TABLE suppressed ( -- who gets no campaign that asks this list
    phone bigint PRIMARY KEY, -- the digits of the number in E.164
    reason text NOT NULL,
    added timestamptz NOT NULL
);
CREATE TABLE unreadable ( -- numbers that were to be suppressed, in a spelling that nobody can compare
    given text PRIMARY KEY,
    reason text NOT NULL,
    added timestamptz NOT NULL
);
