CREATE TABLE steering ( -- what operators ask of a campaign's sender, from other processes
    campaign bigint PRIMARY KEY REFERENCES campaign ON DELETE CASCADE,
    paused timestamptz, -- NULL: it is not
    paused_by text,
    stops bigint NOT NULL DEFAULT 0, -- how often that was asked for: a sender heeds those that come while it is there
    stopped_by text
);
CREATE TABLE activity ( -- what the last sender of a campaign says of itself
    campaign bigint PRIMARY KEY REFERENCES campaign ON DELETE CASCADE,
    epoch bigint NOT NULL,
    since timestamptz NOT NULL,
    activity text NOT NULL,
    why text NOT NULL
);
