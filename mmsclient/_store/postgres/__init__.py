"""The engine on PostgreSQL: journals of many campaigns in one schema, for senders on many machines.

`lease` is what keeps two senders of one campaign apart; `schema/postgres/` holds the tables. Nothing here outlasts a
transaction in the session (no SET, no advisory lock of a session, no prepared statement), so that PgBouncer may pool
transactions. Needs the extra `postgres`.
"""
