CREATE TABLE campaign (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    text text NOT NULL,
    subject text NOT NULL,
    image bytea NOT NULL,
    image_sha256 text NOT NULL,
    base_url text, -- with the next two: for whom it is sent; NULL until somebody has sent with it
    key_salt bytea,
    key_fingerprint text,
    created timestamptz NOT NULL DEFAULT now(),
    runs integer NOT NULL DEFAULT 0,
    list_read boolean NOT NULL DEFAULT false,
    rows_of_cut_list bigint NOT NULL DEFAULT 0
);
CREATE TABLE lease ( -- who may send a campaign. Whoever writes its journal locks this row first
    campaign bigint PRIMARY KEY REFERENCES campaign ON DELETE CASCADE,
    epoch bigint NOT NULL DEFAULT 0, -- one higher for each sender
    sender text, -- the last: its machine and process
    until timestamptz, -- NULL where the last one has ended in good order
    last_batch bigint NOT NULL DEFAULT 0, -- a number is never given twice
    late_ends bigint NOT NULL DEFAULT 0 -- recorded by senders of earlier epochs
) WITH (fillfactor = 50);
CREATE TABLE recipient (
    campaign bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    id bigint NOT NULL,
    phone bigint NOT NULL, -- the digits of the number in E.164
    state text NOT NULL CHECK (state IN ('pending', 'sending', 'accepted', 'refused', 'failed', 'unknown', 'excluded')),
    line bigint NOT NULL,
    run integer NOT NULL, -- in which its line was last read
    batch bigint, -- the last
    message_id text,
    exclusion text,
    reason text,
    resent boolean NOT NULL DEFAULT false, -- it was unknown once, and sent again
    PRIMARY KEY (campaign, id),
    UNIQUE (phone, campaign)
) WITH (fillfactor = 70);
CREATE INDEX recipient_by_message ON recipient (message_id) WHERE message_id IS NOT NULL;
CREATE TABLE aside ( -- rows of the list without a phone of their own
    campaign bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    line bigint NOT NULL,
    number text NOT NULL,
    exclusion text NOT NULL,
    reason text,
    PRIMARY KEY (campaign, line, number)
);
CREATE TABLE excluded (
    campaign bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    phone bigint NOT NULL,
    exclusion text NOT NULL,
    PRIMARY KEY (campaign, phone)
);
CREATE TABLE batch (
    campaign bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    id bigint NOT NULL,
    epoch bigint NOT NULL, -- of the sender that claimed it
    claim text NOT NULL, -- tells the sender which of its claims this was, where the answer to its commit was lost
    recipients integer NOT NULL,
    started timestamptz NOT NULL,
    ended timestamptz,
    accepted bigint,
    credits text,
    error text,
    PRIMARY KEY (campaign, id)
);
CREATE TABLE run (
    campaign bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    id integer NOT NULL,
    first_batch bigint NOT NULL, -- its batches are those from here to the next run's first
    balance_before text, -- credits, by the account call
    balance_after text,
    PRIMARY KEY (campaign, id)
);
CREATE TABLE delivery ( -- what delivery reports said, of other messages too: one may come before its call's answer
    message_id text NOT NULL,
    phone bigint NOT NULL, -- 0 where the report names none
    status text NOT NULL,
    final boolean NOT NULL,
    reported timestamptz NOT NULL,
    PRIMARY KEY (message_id, phone)
);
CREATE TABLE evidence ( -- what was heard of phones of any campaign under ids that are not those of their accepted messages
    phone bigint NOT NULL,
    message_id text NOT NULL,
    heard timestamptz NOT NULL, -- the first time
    PRIMARY KEY (phone, message_id)
);
