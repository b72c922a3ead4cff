"""Every setting of the application in one table: what it is called, where it comes from and what it does.

A setting is read from the environment, then from the ``[app:main]`` section of the ini file, then from its default. Only
this module looks at the environment. A name nobody knows stops the start, so that a typing error cannot silently leave a
default in force.
"""

from __future__ import annotations

import configparser
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import plaster

from dicomweb.languages import N_


class SettingError(ValueError):
    """A setting is unknown, missing or cannot be understood; the text says which and what was expected."""


class Setting(NamedTuple):
    """One row of the table.

    name: ``area.name``, as written in the ini file. variable: the environment variable. kind: how the text is understood.
    """

    name: str
    variable: str
    kind: str
    default: str
    sentence: str
    secret: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting("web.host", "DICOMWEB_HOST", "text", "127.0.0.1", N_("The address the web server listens on.")),
    Setting("web.port", "DICOMWEB_PORT", "count", "6543", N_("The port the web server listens on.")),
    Setting("web.threads", "DICOMWEB_WEB_THREADS", "count", "8", N_("How many requests the web server answers at once.")),
    Setting(
        "web.public_url",
        "DICOMWEB_PUBLIC_URL",
        "text",
        "",
        N_("The address under which others reach the application; empty means the name a client uses and the port the web server listens on."),
    ),
    Setting(
        "web.trusted_proxy",
        "DICOMWEB_WEB_TRUSTED_PROXY",
        "text",
        "",
        N_("The address of a reverse proxy whose X-Forwarded headers are believed; empty means none."),
    ),
    Setting(
        "var",
        "DICOMWEB_VAR",
        "folder",
        "var",
        N_("The folder that holds all state: database, stored images, password, pid files."),
    ),
    Setting(
        "database.url",
        "DICOMWEB_DATABASE_URL",
        "text",
        "",
        N_("The database; empty means an SQLite file in the state folder."),
        True,
    ),
    Setting(
        "broker.url",
        "DICOMWEB_BROKER_URL",
        "text",
        "",
        N_("The Redis server; empty means a private Valkey in the state folder."),
        True,
    ),
    Setting("workers.count", "DICOMWEB_WORKERS", "count", "5", N_("How many worker processes import files.")),
    Setting(
        "watch.folders",
        "DICOMWEB_WATCH",
        "folders",
        "data",
        N_("The watched folders, separated by ':'. A folder dropped into one is a batch."),
    ),
    Setting(
        "watch.sentinel",
        "DICOMWEB_WATCH_SENTINEL",
        "text",
        ".done",
        N_("The file whose writing says that a dropped folder is complete."),
    ),
    Setting(
        "watch.scan_seconds",
        "DICOMWEB_WATCH_SCAN_SECONDS",
        "seconds",
        "60",
        N_("How often the watched folders are scanned, whatever the events said."),
    ),
    Setting(
        "watch.quiet_seconds",
        "DICOMWEB_WATCH_QUIET_SECONDS",
        "seconds",
        "0",
        N_("Take a folder without a sentinel after so many quiet seconds; 0 means never."),
    ),
    Setting(
        "import.mode",
        "DICOMWEB_IMPORT_MODE",
        "copy|move|reference",
        "copy",
        N_("copy: the source stays. move: the source is removed once it is safely stored. reference: files are indexed where they are."),
    ),
    Setting(
        "import.chunk_files",
        "DICOMWEB_IMPORT_CHUNK_FILES",
        "count",
        "256",
        N_("How many files one worker imports in one transaction."),
    ),
    Setting("import.max_file_bytes", "DICOMWEB_IMPORT_MAX_FILE_BYTES", "bytes", "4G", N_("A larger file is refused.")),
    Setting(
        "headers.max_depth",
        "DICOMWEB_HEADERS_MAX_DEPTH",
        "count",
        "32",
        N_("Sequences nested deeper than this are refused."),
    ),
    Setting(
        "headers.max_elements",
        "DICOMWEB_HEADERS_MAX_ELEMENTS",
        "count",
        "200000",
        N_("A header with more elements is refused."),
    ),
    Setting(
        "headers.max_inflated_bytes",
        "DICOMWEB_HEADERS_MAX_INFLATED_BYTES",
        "bytes",
        "256M",
        N_("A deflated file that inflates to more is refused."),
    ),
    Setting(
        "index.promoted",
        "DICOMWEB_INDEX_PROMOTED",
        "words",
        "SliceLocation InstanceNumber AcquisitionTime",
        N_("Keywords whose numbers are also kept as plain rows, for fast ranges over all images."),
    ),
    Setting(
        "jobs.lease_seconds",
        "DICOMWEB_JOBS_LEASE_SECONDS",
        "seconds",
        "60",
        N_("A job whose worker gave no sign of life for so long is given to another."),
    ),
    Setting(
        "jobs.sweep_seconds",
        "DICOMWEB_JOBS_SWEEP_SECONDS",
        "seconds",
        "15",
        N_("How often forgotten and abandoned jobs are looked for."),
    ),
    Setting(
        "jobs.max_attempts",
        "DICOMWEB_JOBS_MAX_ATTEMPTS",
        "count",
        "5",
        N_("After so many tries a job has failed, and waits for a person."),
    ),
    Setting(
        "storage.sync",
        "DICOMWEB_STORAGE_SYNC",
        "switch",
        "on",
        N_("Write stored images through to the disk before a chunk is committed."),
    ),
    Setting(
        "lockdown.mode",
        "DICOMWEB_LOCKDOWN",
        "switch",
        "on",
        N_("Ask for the password; off is possible on a loopback address only."),
    ),
    Setting(
        "lockdown.password",
        "DICOMWEB_PASSWORD",
        "text",
        "",
        N_("The password; empty means the one kept (as a hash) in the state folder."),
        True,
    ),
    Setting(
        "web.max_body_bytes",
        "DICOMWEB_WEB_MAX_BODY_BYTES",
        "bytes",
        "4G",
        N_("A larger request to store images (STOW-RS, or the upload page without scripts) is refused."),
    ),
    Setting(
        "stow.wait_seconds",
        "DICOMWEB_STOW_WAIT_SECONDS",
        "seconds",
        "15",
        N_("How long a request to store images waits for the import before it is answered with 202."),
    ),
    Setting("upload.max_bytes", "DICOMWEB_UPLOAD_MAX_BYTES", "bytes", "64G", N_("How many bytes one upload may have.")),
    Setting("upload.max_files", "DICOMWEB_UPLOAD_MAX_FILES", "count", "100000", N_("How many files one upload may have.")),
    Setting(
        "upload.keep_seconds",
        "DICOMWEB_UPLOAD_KEEP_SECONDS",
        "seconds",
        "259200",
        N_("An upload that was begun and not ended is removed when nothing came for so long."),
    ),
    Setting(
        "upload.archive_max_bytes",
        "DICOMWEB_UPLOAD_ARCHIVE_MAX_BYTES",
        "bytes",
        "64G",
        N_("A ZIP archive that unpacks to more is refused."),
    ),
    Setting(
        "upload.archive_max_files",
        "DICOMWEB_UPLOAD_ARCHIVE_MAX_FILES",
        "count",
        "100000",
        N_("A ZIP archive with more files is refused."),
    ),
    Setting(
        "upload.archive_max_ratio",
        "DICOMWEB_UPLOAD_ARCHIVE_MAX_RATIO",
        "count",
        "200",
        N_("A ZIP archive that unpacks to so many times its size (and to more than 256 MB) is refused."),
    ),
    Setting(
        "upload.archive_depth",
        "DICOMWEB_UPLOAD_ARCHIVE_DEPTH",
        "count",
        "2",
        N_("How deep ZIP archives may lie in each other: 1 means that one inside another is not unpacked."),
    ),
    Setting(
        "dimse.port",
        "DICOMWEB_DIMSE_PORT",
        "port",
        "0",
        N_("The port on which DIMSE associations (C-ECHO, C-STORE, C-FIND) are accepted; 0 means none."),
    ),
    Setting("dimse.host", "DICOMWEB_DIMSE_HOST", "text", "127.0.0.1", N_("The address on which they are accepted.")),
    Setting("dimse.aet", "DICOMWEB_DIMSE_AET", "text", "DICOMWEB", N_("The AE title by which the application is called.")),
    Setting(
        "dimse.callers",
        "DICOMWEB_DIMSE_CALLERS",
        "words",
        "",
        N_("The AE titles that may call; needed where others than this machine can."),
    ),
    Setting(
        "dimse.any_called",
        "DICOMWEB_DIMSE_ANY_CALLED",
        "switch",
        "off",
        N_("Accept associations that call another AE title too."),
    ),
    Setting(
        "dimse.max_associations",
        "DICOMWEB_DIMSE_MAX_ASSOCIATIONS",
        "count",
        "20",
        N_("How many associations there may be at once."),
    ),
    Setting(
        "dimse.max_objects",
        "DICOMWEB_DIMSE_MAX_OBJECTS",
        "count",
        "100000",
        N_("How many objects one association may send."),
    ),
    Setting(
        "dimse.max_bytes",
        "DICOMWEB_DIMSE_MAX_BYTES",
        "bytes",
        "64G",
        N_("How many bytes one association may send."),
    ),
    Setting(
        "dimse.max_seconds",
        "DICOMWEB_DIMSE_MAX_SECONDS",
        "seconds",
        "14400",
        N_("How long one association may last."),
    ),
    Setting(
        "cleanup.undo_minutes",
        "DICOMWEB_CLEANUP_UNDO_MINUTES",
        "minutes",
        "30",
        N_("How long the deletion of a batch can be taken back; 0 means not at all."),
    ),
    Setting(
        "cleanup.source_days",
        "DICOMWEB_CLEANUP_SOURCE_DAYS",
        "days",
        "0",
        N_("Remove the source folders of batches without errors after so many days; 0 means only when somebody asks for it."),
    ),
    Setting(
        "console.enabled",
        "DICOMWEB_CONSOLE",
        "switch",
        "on",
        N_("Offer the console, a page with a command line that only reads."),
    ),
    Setting(
        "sentry.dsn",
        "SENTRY_DSN",
        "text",
        "",
        N_("Where errors are reported, without patient data; empty means nowhere."),
        True,
    ),
)

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}


class Settings(Mapping[str, Any]):
    """The settings in force: ``settings["watch.folders"]``, each converted to its kind.

    ``source(name)`` tells where a value came from: ``environment``, ``ini file`` or ``default``.
    """

    def __init__(
        self, ini: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None, here: Path | None = None
    ) -> None:
        """Read all settings.

        ini: the section of the ini file; names this table does not know belong to the frameworks and are left alone,
        except names in one of our areas. here: relative folders are below it. Raises SettingError.
        """
        ini = dict(ini or {})
        environ = os.environ if environ is None else environ
        self.here = (here or Path.cwd()).resolve()
        self._sources: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        self._refuse_unknown(ini, environ)
        for row in SETTINGS:
            if environ.get(row.variable, "") != "":
                text, source = environ[row.variable], "environment"
            elif ini.get(row.name, "") != "":
                text, source = ini[row.name], "ini file"
            else:
                text, source = row.default, "default"
            self._values[row.name] = self._convert(row, text.strip())
            self._sources[row.name] = source
        self._check()

    @classmethod
    def load(cls, ini: Path | str) -> Settings:
        """Read all settings for a program that was given an ini file. Raises SettingError."""
        path = Path(ini).resolve()
        if not path.is_file():
            raise SettingError(f"{path} is not a file; the programs are started with the path of an ini file.")
        try:
            section = plaster.get_settings(str(path), "app:main")
        except (ValueError, configparser.Error) as error:
            raise SettingError(f"{path} cannot be understood: {error}") from None
        return cls(section, here=path.parent)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def source(self, name: str) -> str:
        """Tell where the value of a setting came from."""
        return self._sources[name]

    @property
    def var(self) -> Path:
        """The state folder, absolute."""
        return self._values["var"]

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the database."""
        return self._values["database.url"] or f"sqlite:///{self.var / 'dicomweb.sqlite'}"

    @property
    def broker_url(self) -> str:
        """The kombu URL of the broker."""
        return self._values["broker.url"] or f"redis+socket://{self.var / 'valkey.sock'}"

    @property
    def embedded_broker(self) -> bool:
        """Is the broker the private server of this installation?"""
        return not self._values["broker.url"]

    @property
    def loopback(self) -> bool:
        """Does the web server listen to this machine only?"""
        return is_loopback(self._values["web.host"])

    def _refuse_unknown(self, ini: Mapping[str, str], environ: Mapping[str, str]) -> None:
        variables = {row.variable for row in SETTINGS}
        for variable in sorted(environ):
            if variable.startswith("DICOMWEB_") and variable not in variables:
                raise SettingError(f"{variable} is not a setting; README.md lists the settings that exist.")
        names = {row.name for row in SETTINGS}
        areas = {name.split(".")[0] for name in names if "." in name}
        for name in sorted(ini):
            if name.split(".")[0] in areas and "." in name and name not in names:
                raise SettingError(f"{name} in the ini file is not a setting; README.md lists the settings that exist.")

    def _convert(self, row: Setting, text: str) -> Any:
        def wrong(expected: str) -> SettingError:
            shown = "the given value" if row.secret else repr(text)
            return SettingError(f"{row.name} ({row.variable}): {shown} is not {expected}.")

        match row.kind:
            case "text":
                return text
            case "folder":
                return self._folder(text)
            case "folders":
                folders = tuple(self._folder(part) for part in text.split(os.pathsep) if part.strip())
                if not folders:
                    raise wrong("a list of folders")
                return folders
            case "words":
                return tuple(text.replace(",", " ").split())
            case "count":
                if not text.isascii() or not text.isdigit() or int(text) < 1:
                    raise wrong("a whole number of at least 1")
                return int(text)
            case "port":
                if not text.isascii() or not text.isdigit() or int(text) > 65535:
                    raise wrong("a port, a number from 0 to 65535")
                return int(text)
            case "seconds" | "minutes" | "days":
                try:
                    span = float(text)
                except ValueError:
                    raise wrong(f"a number of {row.kind}") from None
                if not 0 <= span < (1e9 if row.kind == "seconds" else 1e5):
                    raise wrong(f"a number of {row.kind}")
                return span
            case "bytes":
                number, unit = (text[:-1], text[-1:].upper()) if text[-1:].isalpha() else (text, "")
                if unit not in _UNITS or not number.isdigit():
                    raise wrong("a size such as 500M or 4G")
                return int(number) * _UNITS[unit]
            case "switch":
                if text.lower() not in _SWITCH:
                    raise wrong("on or off")
                return _SWITCH[text.lower()]
            case choices:
                if text not in choices.split("|"):
                    raise wrong("one of " + ", ".join(choices.split("|")))
                return text

    def _folder(self, text: str) -> Path:
        return Path(os.path.abspath(self.here / Path(text.strip()).expanduser()))

    def _check(self) -> None:
        if self._values["web.port"] > 65535:
            raise SettingError("web.port (DICOMWEB_PORT): a port is a number from 1 to 65535.")
        if self._values["web.public_url"] and not re.fullmatch(r"https?://[^/?#\s\"<>\\]+(/[^?#\s\"<>\\]*)?", self._values["web.public_url"]):
            raise SettingError("web.public_url (DICOMWEB_PUBLIC_URL): an address begins with http:// or https:// and has no ? and #.")
        if not self._values["lockdown.mode"] and not self.loopback:
            raise SettingError(
                f"lockdown.mode (DICOMWEB_LOCKDOWN): the lockdown can be switched off on a loopback address only, and web.host is {self._values['web.host']}."
            )
        if not 1 <= len(self._values["dimse.aet"]) <= 16:
            raise SettingError("dimse.aet (DICOMWEB_DIMSE_AET): an AE title has 1 to 16 characters.")
        if self._values["dimse.port"] and not is_loopback(self._values["dimse.host"]) and not self._values["dimse.callers"]:
            # DIMSE knows no password; what others can reach must at least be told who may call.
            raise SettingError(
                f"dimse.callers (DICOMWEB_DIMSE_CALLERS): dimse.host is {self._values['dimse.host']}, which others can reach, so the AE titles that may call must be named."
            )
        var = self.var
        for folder in self._values["watch.folders"]:
            if folder == var or var in folder.parents or folder in var.parents:
                raise SettingError(
                    f"watch.folders (DICOMWEB_WATCH): {folder} and the state folder {var} must not lie inside each other."
                )


def is_loopback(host: str) -> bool:
    """Tell whether an address (or the name localhost) reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reachable_host(host: str) -> str:
    """Give the address under which this machine reaches a server that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  Compared, not listened on.
