ALTER TABLE campaign ADD COLUMN template text NOT NULL DEFAULT ''; -- what is to be known of it, where text or subject is one
CREATE TABLE message ( -- what a campaign has made of its template, each text once
    campaign bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    id bigint GENERATED ALWAYS AS IDENTITY,
    digest bytea NOT NULL, -- SHA-256 of text and subject
    text text NOT NULL,
    subject text NOT NULL,
    PRIMARY KEY (campaign, id),
    UNIQUE (campaign, digest)
);
ALTER TABLE recipient ADD COLUMN message bigint; -- what it gets, NULL where all get the same
CREATE INDEX recipient_by_text ON recipient (campaign, message, id) WHERE message IS NOT NULL;
