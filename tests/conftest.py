"""Fixtures for all tests: sample files, settings, and an empty migrated database on SQLite and on PostgreSQL.

A test that asks for ``database_url``, ``engine`` or ``settings`` runs twice, once on each database. The migrations run
once a session, on a template that every test copies; so every run tests them.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from dicomweb.db import make_engine
from dicomweb.migrations import upgrade
from dicomweb.settings import SETTINGS, Settings
from tests import services

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT.parent / "shared" / "dicom"

# What the developer has set for the running application must not reach the tests.
for row in SETTINGS:
    os.environ.pop(row.variable, None)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real DICOM files beside the checkout; the test is skipped where it does not exist."""
    if not SAMPLES.is_dir():
        if os.environ.get("SAMPLES_REQUIRED") == "1":
            pytest.fail("../shared/dicom does not exist, and SAMPLES_REQUIRED=1 says it must")
        pytest.skip("../shared/dicom does not exist")
    return SAMPLES


@pytest.fixture(scope="session")
def pydicom_files() -> tuple[Path, ...]:
    """The DICOM files that come with pydicom: its test files (broken ones too), DICOMDIR sets and character sets, in path order."""
    # pydicom.data.get_testdata_files would try to download those that are not in the package.
    data = Path(pydicom.__file__).parent / "data"
    files = [
        *data.glob("test_files/*.dcm"),
        *data.glob("charset_files/*.dcm"),
        *data.glob("test_files/dicomdirtests/**/*"),
    ]
    return tuple(sorted(path for path in files if path.is_file() and path.suffix in (".dcm", "")))


@pytest.fixture
def silent_pydicom() -> Iterator[None]:
    """pydicom tells about odd files, which are what some tests are for."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[services.PostgreSQL]:
    """A private PostgreSQL server."""
    with services.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[str]:
    """The socket of a private Redis server."""
    with services.redis_server() as path:
        yield path


@pytest.fixture
def broker_url(redis_socket: str) -> str:
    """The kombu URL of an empty private Redis server."""
    services.redis_client(redis_socket).flushall()
    return f"redis+socket://{redis_socket}"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file."""
    path = tmp_path_factory.mktemp("template") / "template.sqlite"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_template(postgresql: services.PostgreSQL) -> str:
    """The name of a migrated, empty PostgreSQL database."""
    name = postgresql.create()
    upgrade(postgresql.url(name))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty migrated database, once for each kind of database."""
    if request.param == "sqlite":
        path = tmp_path / "test.sqlite"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
    else:
        server: services.PostgreSQL = request.getfixturevalue("postgresql")
        name = server.create(request.getfixturevalue("postgresql_template"))
        yield server.url(name)
        server.drop(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on an empty migrated database."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings over a temporary folder: state in ``var``, watched folder ``data`` (both exist), an empty migrated database."""
    for name in ("var", "data"):
        (tmp_path / name).mkdir()
    return Settings({"database.url": database_url}, environ={}, here=tmp_path)
