CREATE TABLE sender ( -- who sends what belongs to no campaign. Without a row, it is dead, and so is what it had claimed
    id text PRIMARY KEY, -- random: a sender that has lost its lease gets another one
    name text NOT NULL, -- its machine and process
    until timestamptz NOT NULL -- whoever finds it past may remove the row
) WITH (fillfactor = 50);
