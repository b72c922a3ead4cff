"""OHIF below ``/ohif/``, when it is installed: its files, its configuration, and a content security policy of its own.

OHIF is one page whose script makes all others of addresses below ``/ohif/``. It stands on the same origin as the application and
asks ``/dicom-web`` in the session of the browser, so its policy opens no more than it needs: no other host, no script in a page but
those that the package has, and evaluated text only in the workers, where the decoders are.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.response import FileResponse, Response
from pyramid.view import view_config

from dicomweb import ohif
from dicomweb.languages import N_
from dicomweb.resources import Root
from dicomweb.security import SESSION_COOKIE, Permission
from dicomweb.views import see_other

# The names of most files change with what the package says; what we change in them is not in the names, so not for ever.
FILE_SECONDS = 86400
PAGE = "index.html"
DICOMWEB = "/dicom-web"
CONFIGURATION = "app-config.js"

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/vnd.microsoft.icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webapp": "application/manifest+json",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
_TEXTS = frozenset((".css", ".html", ".js"))

# https://docs.ohif.org/configuration/configurationFiles
_CONFIGURATION: dict[str, Any] = {
    "name": "DICOM Database",
    "routerBasename": ohif.URL.rstrip("/"),
    "extensions": [],
    "modes": [],
    # Without the tour that lies over the first image of everybody who comes for the first time.
    "customizationService": [{"ohif.tours": {"$set": []}}],
    "showStudyList": True,
    "investigationalUseDialog": {"option": "never"},
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": True,
    "showLoadingIndicator": True,
    "strictZSpacingForVolumeViewport": True,
    "groupEnabledModesFirst": True,
    "maxNumberOfWebWorkers": 3,
    "maxNumRequests": {"interaction": 100, "thumbnail": 5, "prefetch": 25},
    "defaultDataSourceName": "dicomweb",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": {
                "name": "dicomweb",
                "friendlyName": "DICOM Database",
                "qidoRoot": DICOMWEB,
                "wadoRoot": DICOMWEB,
                "wadoUriRoot": f"{DICOMWEB}/wado",
                "qidoSupportsIncludeField": True,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "singlepart": "bulkdata,video",
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}
# In the place of OHIF's own name: the way back.
_NAME = """\
window.config.whiteLabeling = {
  createLogoComponentFn: React =>
    React.createElement("a", {href: "/", title: "Back to DICOM Database", className: "text-foreground whitespace-nowrap"}, "DICOM Database"),
};
"""
_NOT_INSTALLED = (
    N_("OHIF is not installed"),
    N_("The viewer OHIF is a choice: whoever runs this application installs it with “make ohif”, and it is here at once."),
)


def policy(*, scripts: list[str], evaluates: bool) -> str:
    """Give the content security policy of an answer. scripts: those in the page, by their hashes. evaluates: text may become code."""
    sources = ["'self'", "'wasm-unsafe-eval'", *scripts, *(["'unsafe-eval'"] if evaluates else [])]
    return (
        f"default-src 'none'; script-src {' '.join(sources)}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; media-src 'self' blob:; manifest-src 'self'; "
        "frame-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )


def configuration() -> str:
    """Write the configuration of OHIF, as the script it loads."""
    return f"window.config = {json.dumps(_CONFIGURATION, indent=2)};\n{_NAME}"


@view_config(route_name="ohif", request_method="GET", renderer="failure.jinja2", permission=Permission.IMAGE_READ)
def serve(context: Root, request: Any) -> Any:
    """Give a file of OHIF, or the page that all its addresses are."""
    files = ohif.files()
    if files is None:
        request.response.status = 404
        title, sentence = _NOT_INSTALLED
        return {"status": 404, "title": title, "sentence": sentence, "inside": SESSION_COOKIE in request.cookies}
    name = "/".join(request.matchdict["subpath"])
    if name == CONFIGURATION:
        response = Response(text=configuration(), content_type=_TYPES[".js"], charset="utf-8")
        response.cache_control = "private, no-cache"
    elif name in files.names:
        response = _file(files, name, request)
    elif PurePath(name).suffix in _TYPES:
        raise HTTPNotFound()
    else:
        response = _file(files, PAGE, request)
    return response


@view_config(route_name="ohif.bare", request_method="GET", permission=Permission.IMAGE_READ)
def lead_to_list(context: Root, request: Any) -> Any:
    """Lead to the list of studies."""
    return see_other(request, ohif.URL)


def _file(files: ohif.Files, name: str, request: Any) -> Response:
    """Give a file that is listed: whatever an address says, nothing else is opened."""
    suffix = PurePath(name).suffix
    packed = name in files.packed and bool(request.accept_encoding.acceptable_offers(["gzip"]))
    response = FileResponse(
        str(files.folder / (f"{name}.gz" if packed else name)),
        request,
        content_type=_TYPES.get(suffix, "application/octet-stream"),
        content_encoding="gzip" if packed else None,
    )
    response.charset = "utf-8" if suffix in _TEXTS else None
    scripts = ohif.inline_scripts((files.folder / name).read_bytes()) if suffix == ".html" else []
    # A worker obeys the policy that came with its own script.
    response.headers["Content-Security-Policy"] = policy(scripts=scripts, evaluates=suffix == ".js")
    response.cache_control = "private, no-cache" if suffix == ".html" else f"private, max-age={FILE_SECONDS}"
    if name in files.packed:
        response.vary = ("Accept-Encoding",)
    response.conditional_response = True
    return response


def includeme(config: Any) -> None:
    """Add the addresses."""
    config.add_route("ohif", f"{ohif.URL}*subpath", factory=Root)
    config.add_route("ohif.bare", ohif.URL.rstrip("/"), factory=Root)
