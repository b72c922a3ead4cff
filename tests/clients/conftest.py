"""All sample files, imported once, behind a real web server: what the clients of others search and retrieve."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass

from dicomweb.app import main
from dicomweb.db import make_engine
from dicomweb.settings import Settings
from tests import services
from tests.clients.held import Held, files_of
from tests.functional import api_data


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory, samples: Path, pydicom_files: tuple[Path, ...]) -> Path:
    """A folder with all sample files, those of pydicom too."""
    folder = tmp_path_factory.mktemp("clients") / "all"
    shutil.copytree(samples, folder / "samples")
    (folder / "pydicom").mkdir()
    for number, path in enumerate(pydicom_files):
        shutil.copyfile(path, folder / "pydicom" / f"{number:04}-{path.name}")
    return folder


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> Iterator[Held]:
    """A web server that holds all sample files, once for each kind of database; its tests change nothing."""
    here = tmp_path_factory.mktemp("held")
    for name in ("var", "data"):
        (here / name).mkdir()
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_template"), here / "held.sqlite")
        url = f"sqlite:///{here / 'held.sqlite'}"
    else:
        server: services.PostgreSQL = request.getfixturevalue("postgresql")
        url = server.url(server.create(request.getfixturevalue("postgresql_template")))
    settings = Settings({"database.url": url}, environ={}, here=here)
    api_data.set_cheap_password(settings)
    engine = make_engine(url)
    api_data.import_folder(api_data.importer_of(settings, engine), sample_folder)
    # Not api_data.make_app, whose application moves to the database of each test.
    app = main({"here": str(here)}, **{"database.url": url, "broker.url": "redis+socket:///nowhere"})
    try:
        with services.web_server(app) as address:
            yield Held(address, files_of(engine, sample_folder))
    finally:
        app.registry["renderer"].close()
        api_data.close(app)
        engine.dispose()


@pytest.fixture
def client(held: Held) -> Iterator[DICOMwebClient]:
    """dicomweb-client for Python, with the password."""
    with create_session_from_user_pass("anybody", api_data.PASSWORD) as session:
        made = DICOMwebClient(f"{held.address}/dicom-web", session=session)
        made.set_http_retry_params(retry=False)
        yield made
