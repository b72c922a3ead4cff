"""What ``pshell development.ini`` has at hand."""

from __future__ import annotations

from typing import Any

import transaction

from dicomweb import batches, db, models, search, storage


def setup(env: dict[str, Any]) -> None:
    """Put the models, the verbs and a session into the shell; nothing is written until ``tm.commit()`` is called."""
    tm = transaction.TransactionManager(explicit=True)
    tm.begin()
    env.update(
        tm=tm,
        dbsession=db.make_session(env["registry"]["engine"], tm),
        models=models,
        search=search,
        storage=storage,
        batches=batches,
    )
