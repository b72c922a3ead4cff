"""Addresses of DICOMweb resources, absolute as PS3.18 wants them (RetrieveURL, BulkDataURI).

They begin with the setting ``web.public_url``. Without it they have the name by which the client reached us and the port that the
server really listens on: the header Host alone may say anything, and behind a proxy or a mapped port it has to be told by the setting.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

PREFIX = "/dicom-web"
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\]")
_PORTS = {"http": "80", "https": "443"}


def base_url(request: Any) -> str:
    """Give the address of the application that others reach, without a slash at its end."""
    public: str = request.registry.settings["dicomweb"]["web.public_url"]
    if public:
        return public.rstrip("/")
    host, port = request.headers.get("Host", ""), str(request.environ["SERVER_PORT"])
    name = host[: host.rfind("]") + 1] if host.startswith("[") else host.partition(":")[0]
    if not _NAME.fullmatch(name):
        name = request.environ["SERVER_NAME"]
    at = "" if _PORTS.get(request.scheme) == port else f":{port}"
    return f"{request.scheme}://{name}{at}{quote(request.script_name)}"


def service_url(request: Any) -> str:
    """Give the base address of DICOMweb (PS3.18 8.2: the Base URI)."""
    return base_url(request) + PREFIX


def resource_url(base: str, study_uid: str, series_uid: str | None = None, sop_uid: str | None = None, *more: str) -> str:
    """Give the address of a study, series or instance, and of what is below it.

    base: what ``service_url`` gives. more: further parts of the path, such as ``frames`` and ``1``.
    """
    parts = [base, "studies", quote(study_uid, safe="")]
    if series_uid is not None:
        parts += ["series", quote(series_uid, safe="")]
    if sop_uid is not None:
        parts += ["instances", quote(sop_uid, safe="")]
    return "/".join((*parts, *(quote(part, safe="") for part in more)))


def bulk_prefix(base: str, study_uid: str, series_uid: str, sop_uid: str) -> str:
    """Give what precedes the path of an element in the address of its bulk data."""
    return resource_url(base, study_uid, series_uid, sop_uid, "bulkdata") + "/"
