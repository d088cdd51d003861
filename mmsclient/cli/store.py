"""`mmsclient store`: what an operator does with a store in PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from mmsclient._extras import needed
from mmsclient._words import counted
from mmsclient.cli.output import printable
from mmsclient.cli.whole import WHOLE

app: App = App(name="store", default_parameter=Parameter(negative=()))

MOST_DAYS = 36_500
"""Further back than a database's clock was ever set."""


@app.command
def migrate(url: str) -> None:
    """Make the tables, or bring them up to date. A campaign does so too, where its role may.

    Parameters
    ----------
    url
        Of the database: postgresql://user@host/database. The password is best in PGPASSWORD or ~/.pgpass.
    """
    with needed("postgres", "`mmsclient store`"):
        from mmsclient._store.postgres.address import Address  # noqa: PLC0415
        from mmsclient._store.postgres.database import Database  # noqa: PLC0415
        from mmsclient._store.postgres.migrations import migrate as apply  # noqa: PLC0415

    with closing(Database(Address.of(url))) as database:
        applied = apply(database)
    print("\n".join(f"applied {name}" for name in applied) or "up to date")


@app.command
def purge(url: str, *, older_than: Annotated[int, WHOLE, Parameter(validator=Number(gte=4, lte=MOST_DAYS))]) -> None:
    """Forget old campaigns, delivery reports, keys of single sends and orders of the outbox.

    What is begun again after that is sent again: a campaign to everybody, a send with such a key, an order.

    Parameters
    ----------
    url
        Of the database: postgresql://user@host/database.
    older_than
        Days for which nothing was sent in a campaign that is forgotten, or since a keyed send or an order ended; at
        least 4, since reports may come for 3, and at most 36500.
    """
    with needed("postgres", "`mmsclient store`"):
        from mmsclient._store.postgres.address import Address  # noqa: PLC0415
        from mmsclient._store.postgres.database import Database  # noqa: PLC0415
        from mmsclient._store.postgres.maintenance import purge as forget  # noqa: PLC0415
        from mmsclient._store.postgres.migrations import check_version  # noqa: PLC0415

    with closing(Database(Address.of(url))) as database:
        check_version(database)
        forgotten = forget(database, older_than)
    for name in forgotten.campaigns:
        print(printable(f"campaign {name}"))
    counts = (
        (len(forgotten.campaigns), "campaign"),
        (forgotten.reports, "delivery report"),
        (forgotten.keys, "keyed send"),
        (forgotten.orders, "order"),
    )
    print(f"forgotten: {', '.join(counted(*each) for each in counts)}")
