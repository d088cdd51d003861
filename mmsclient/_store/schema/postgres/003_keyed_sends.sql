CREATE TABLE ledger ( -- for whom keyed sends are sent: one row
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    base_url text NOT NULL,
    key_salt bytea NOT NULL,
    key_fingerprint text NOT NULL
);
CREATE TABLE send (
    key text COLLATE "C" PRIMARY KEY,
    claim text NOT NULL UNIQUE, -- another one each time that the key is claimed
    text text NOT NULL, -- of what was sent: this and the next three are digests
    subject text NOT NULL,
    image text NOT NULL,
    recipients text NOT NULL,
    state text NOT NULL CHECK (state IN ('sending', 'accepted', 'refused', 'failed', 'unknown')),
    sender text NOT NULL, -- the id of a row in `sender`, which need not be there any more
    claimed timestamptz NOT NULL,
    ended timestamptz,
    result text, -- JSON
    proven boolean NOT NULL DEFAULT false -- accepted by evidence, and not by an answer
) WITH (fillfactor = 70);
CREATE INDEX send_under_way ON send (sender) WHERE state = 'sending';
CREATE INDEX send_by_age ON send (ended);
CREATE TABLE send_recipient ( -- to whom a key was claimed for
    phone bigint NOT NULL, -- the digits of the number in E.164
    claim text NOT NULL REFERENCES send (claim) ON DELETE CASCADE,
    PRIMARY KEY (phone, claim)
);
CREATE INDEX send_recipient_by_claim ON send_recipient (claim);
CREATE TABLE send_message ( -- what an answer named
    message_id text NOT NULL,
    phone bigint NOT NULL, -- 0 where it names none
    claim text NOT NULL REFERENCES send (claim) ON DELETE CASCADE,
    PRIMARY KEY (message_id, phone, claim)
);
CREATE INDEX send_message_by_claim ON send_message (claim);
