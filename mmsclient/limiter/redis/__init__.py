"""The limiter of many processes: the slots and the token bucket of one account, kept in Redis by a script.

`limiter` is the front, over `callers` (the queue), `sync` (when the process talks to Redis, and what comes of it),
`leases` (the slots that the process holds), `calls` (the commands sent to Redis) and `fallback` (while Redis is away).
"""
