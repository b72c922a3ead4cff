"""Is the application there? Answers without the password, and tells nothing else."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from dicomweb.resources import Root


@view_config(context=Root, name="health", renderer="json", permission=NO_PERMISSION_REQUIRED)
def show_health(context: Root, request: Any) -> dict[str, str]:
    """Say that web server and database answer; without the database this is a 503 like everything else."""
    request.dbsession.execute(sa.text("SELECT 1"))
    return {"status": "ok"}
