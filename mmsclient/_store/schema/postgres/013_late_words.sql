-- A picture is needed, too, by an order that a late word of its worker may let wait again.
DROP INDEX outbox_by_picture;
CREATE INDEX outbox_by_picture ON outbox (picture)
    WHERE state IN ('waiting', 'sending', 'unknown') OR proven OR state = 'cancelled' AND doubted IS NOT NULL;
-- Where the schema of temporary tables is not named, it comes first: a trigger would delete from a caller's own table of
-- the same name, with the rights of the owner, and what that table's triggers do has them as well.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION recipients_go() SET search_path = %I, pg_temp', current_schema);
    EXECUTE format(
        'ALTER FUNCTION outbox_put(text, text, text, bytea, text, text, bigint[], timestamptz, boolean)'
        ' SET search_path = %I, pg_temp', current_schema
    );
END
$$;
