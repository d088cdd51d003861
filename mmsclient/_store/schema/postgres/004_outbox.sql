CREATE TABLE outbox_picture (
    sha256 text PRIMARY KEY,
    data bytea NOT NULL
);
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    text text NOT NULL,
    subject text NOT NULL,
    picture text NOT NULL, -- its hash; the picture goes when no order is waiting, sending or unknown
    message text NOT NULL, -- a digest of the three: equal messages go out together
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'sending', 'accepted', 'refused', 'unknown', 'cancelled')),
    put timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before timestamptz,
    due timestamptz NOT NULL, -- not sent before
    attempts integer NOT NULL DEFAULT 0,
    together integer, -- most orders in its call
    sender text, -- whose lease is in "sender"; the last
    claim text, -- the last
    claimed timestamptz,
    doubted timestamptz, -- when the first call was claimed that an operator had sent again, though it was unknown
    proven boolean NOT NULL DEFAULT false, -- accepted by evidence, and not by an answer
    ended timestamptz,
    number bigint UNIQUE, -- of its end, in the order of the ends
    result text -- JSON
) WITH (fillfactor = 70);
CREATE INDEX outbox_waiting ON outbox (due, id) WHERE state = 'waiting';
CREATE INDEX outbox_equal ON outbox (message, due, id) WHERE state = 'waiting';
CREATE INDEX outbox_sending ON outbox (sender) WHERE state = 'sending';
CREATE INDEX outbox_by_picture ON outbox (picture) WHERE state IN ('waiting', 'sending', 'unknown');
CREATE INDEX outbox_unsettled ON outbox (id)
    WHERE state = 'unknown' OR proven OR state = 'waiting' AND doubted IS NOT NULL;
CREATE INDEX outbox_by_age ON outbox (ended) WHERE ended IS NOT NULL;
CREATE TABLE outbox_recipient (
    outbox bigint NOT NULL REFERENCES outbox ON DELETE CASCADE,
    phone bigint NOT NULL, -- the digits of the number in E.164
    position integer NOT NULL,
    state text, -- NULL as long as it is what its order is
    message_id text,
    proven boolean NOT NULL DEFAULT false, -- the id is that of a report or a reply, and not of an answer
    PRIMARY KEY (outbox, phone)
) WITH (fillfactor = 70);
CREATE INDEX outbox_recipient_by_phone ON outbox_recipient (phone);
CREATE INDEX outbox_recipient_by_message ON outbox_recipient (message_id) WHERE message_id IS NOT NULL;
CREATE TABLE outbox_fact (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    last_number bigint NOT NULL DEFAULT 0, -- its row is locked by whoever records an end, so that ends have an order
    base_url text, -- with the next two: for whom it is sent; NULL until a worker has begun
    key_salt bytea,
    key_fingerprint text
);
INSERT INTO outbox_fact DEFAULT VALUES;

-- Puts an order, in whichever transaction. Returns the names of the parts in which another order with the key differs;
-- with is_strict that is an error, and ends the transaction.
CREATE FUNCTION outbox_put(
    order_key text, order_text text, order_subject text, order_picture bytea, picture_sha256 text, order_message text,
    phones bigint[], earliest timestamptz, is_strict boolean
) RETURNS text[] LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    added bigint;
    held outbox%ROWTYPE;
    differing text[];
BEGIN
    INSERT INTO outbox_picture VALUES (picture_sha256, order_picture) ON CONFLICT DO NOTHING;
    INSERT INTO outbox (key, text, subject, picture, message, not_before, due)
    VALUES (order_key, order_text, order_subject, picture_sha256, order_message, earliest,
        greatest(clock_timestamp(), earliest))
    ON CONFLICT (key) DO NOTHING RETURNING id INTO added;
    IF added IS NOT NULL THEN
        INSERT INTO outbox_recipient (outbox, phone, position)
        SELECT added, phone, place FROM unnest(phones) WITH ORDINALITY AS given (phone, place);
        PERFORM pg_notify('mmsclient_outbox', current_schema);
        RETURN '{}';
    END IF;
    SELECT * INTO STRICT held FROM outbox WHERE key = order_key;
    differing := array_remove(ARRAY[
        CASE WHEN held.text <> order_text THEN 'text' END,
        CASE WHEN held.subject <> order_subject THEN 'subject' END,
        CASE WHEN held.picture <> picture_sha256 THEN 'image' END,
        CASE WHEN ARRAY(SELECT phone FROM outbox_recipient WHERE outbox = held.id ORDER BY phone)
            <> ARRAY(SELECT phone FROM unnest(phones) AS given (phone) ORDER BY phone) THEN 'recipients' END
    ], NULL);
    IF is_strict AND differing <> '{}' THEN
        RAISE EXCEPTION 'mmsclient: the key was used for another %', array_to_string(differing, ', ')
            USING ERRCODE = 'unique_violation', HINT = 'Give each order a key of its own.';
    END IF;
    RETURN differing;
END
$$;
