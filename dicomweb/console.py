"""What ``pshell development.ini`` has at hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import transaction

from dicomweb import batches, db, models, search


def setup(env: dict[str, Any]) -> None:
    """Put the models, the verbs, the storage and a session into the shell.

    ``dbsession`` only reads: on SQLite a session that may write holds the one write lock, and an open shell would stop all
    imports. To see what is new: ``tm.abort(); tm.begin()``. To write: ``with work() as dbsession: ...``, which commits.
    """
    registry = env["registry"]
    tm = transaction.TransactionManager(explicit=True)
    tm.begin()
    env.update(
        tm=tm,
        dbsession=db.make_session(registry["engine"], tm, read_only=True),
        work=partial(db.work, registry["engine"], doorbell=registry["doorbell"]),
        models=models,
        search=search,
        storage=registry["storage"],
        batches=batches,
    )
