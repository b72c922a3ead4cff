"""The web application: ``main`` composes, everything else configures itself in its own ``includeme``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyramid.config import Configurator

from dicomweb.errors import report_errors
from dicomweb.settings import Settings


def main(global_config: dict[str, str], **ini: str) -> Any:
    """Make the WSGI application; ``[app:main]`` of the ini file names this function."""
    settings = Settings(ini, here=Path(global_config["here"]) if "here" in global_config else None)
    report_errors(settings, "web")
    with Configurator(settings={**ini, "dicomweb": settings}) as config:
        config.include("dicomweb.db")
        # Before the faces: their views take the default permission and the tokens against forged requests from it.
        config.include("dicomweb.security")
        config.include("dicomweb.resources")
        config.include("dicomweb.views")
        config.include("dicomweb.api")
        config.include("dicomweb.rs")
        return config.make_wsgi_app()
