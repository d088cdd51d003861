CREATE TABLE event ( -- callbacks that were handled, or are being handled
    key bytea PRIMARY KEY, -- what all copies of an event have in common
    owner text NOT NULL, -- the process that has reserved it
    until timestamptz NOT NULL, -- when the reservation ends; where it was handled: when that was
    handled boolean NOT NULL DEFAULT false,
    message_id text, -- with the next four: a final report, for those who wait for it on other machines
    status text,
    recipient text,
    custom_string text,
    source text
) WITH (fillfactor = 70);
CREATE INDEX event_by_message ON event (message_id) WHERE message_id IS NOT NULL;
CREATE TABLE awaited ( -- final reports that somebody waits for
    message_id text NOT NULL,
    phone text NOT NULL, -- its digits, empty for any
    waiter text NOT NULL, -- the process that waits
    until timestamptz NOT NULL, -- as long as it lives it moves this on
    PRIMARY KEY (message_id, phone, waiter)
);
