"""A package as small as one of OHIF's kind can be, for tests of how it is prepared and served."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from dicomweb import ohif

BUNDLE = b'o.p = "/";' + b"work(); " * 400
MEMBERS = {
    "package/LICENSE": b"MIT",
    "package/package.json": b"{}",
    "package/dist/index.html": b'<html content="/assets/x.png"><link href="/app.css"><script>window.PUBLIC_URL="/"</script>'
    b'<script defer src="/app.1.js"></script></html>',
    "package/dist/app.1.js": BUNDLE,
    "package/dist/worker.2.js": b'o.p = "/"; const p = "/";',
    "package/dist/slides.js": b"browserImportFunction('/dicom-microscopy-viewer/v.js')",
    "package/dist/dicom-microscopy-viewer/v.js": b"v()",
    "package/dist/app.css": b"a{src:url(/a.woff2)} b{src:url(data:x)} c{src:url(//elsewhere)}",
    "package/dist/manifest.json": b'{"icons": [{"src": "/assets/x.png"}]}',
    "package/dist/decoder.wasm": b"\0asm" + bytes(2000),
    "package/dist/a.woff2": b"font",
    "package/dist/assets/x.png": b"\x89PNG",
    "package/dist/app-config.js": b"window.config = {theirs: true}",
    "package/dist/app.1.js.map": b"{}",
    "package/dist/ort/ort.wasm": bytes(100),
    "package/dist/silent-refresh.html": b"<script>x</script>",
}


def write_package(path: Path, members: dict[str, bytes] = MEMBERS) -> Path:
    """Write a package as npm fetches it; give its path."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def install_small(folder: Path) -> Path:
    """Prepare the small package below a folder as if it were the real one; give where ``ohif.INSTALLED`` would be."""
    installed = folder / "installed" / "ohif"
    ohif.unpack(write_package(folder / "small.tgz"), installed)
    (installed / ".ready").write_text(f"{ohif.VERSION} {ohif.PREPARED}\n")
    return installed
