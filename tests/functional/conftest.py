"""Fixtures of the functional tests: the application over a test's own database, and real imports in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomweb import ohif
from dicomweb.imports import Importer
from dicomweb.settings import Settings
from tests.functional import api_data
from tests.functional.pages import Browser


@pytest.fixture(autouse=True)
def ohif_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where OHIF would be installed: nothing is there, whatever the checkout has."""
    monkeypatch.setattr(ohif, "INSTALLED", tmp_path / "installed" / "ohif")
    return ohif.INSTALLED


@pytest.fixture
def importer(settings: Settings, engine: sa.Engine) -> Importer:
    """What the workers work with."""
    return api_data.importer_of(settings, engine)


@pytest.fixture
def api(settings: Settings) -> Iterator[api_data.CheckedApp]:
    """A client of the API that sends the password and checks each answer against the Swagger document."""
    app = api_data.make_app(settings)
    yield api_data.CheckedApp(app)
    api_data.close(app)


@pytest.fixture
def imported(settings: Settings, importer: Importer) -> int:
    """The id of a batch with seven images, one of them in conflict, two errors and a duplicate."""
    folder = settings["watch.folders"][0] / "samples"
    api_data.write_samples(folder)
    return api_data.import_folder(importer, folder)


@pytest.fixture
def stranger(settings: Settings, engine: sa.Engine) -> Iterator[Browser]:
    """A browser that has not given the password."""
    app = api_data.make_app(settings)
    yield Browser(app, settings, engine)
    api_data.close(app)


@pytest.fixture
def browser(stranger: Browser) -> Browser:
    """A browser that has given the password."""
    stranger.begin_session()
    return stranger
