"""Errors are reported to Sentry, when a DSN is set, without anything a patient could be known by.

Header values, file names and search words get into exception texts, log arguments, URLs and local variables. So a report
keeps what finds a bug (types, stack, source lines, the text of log calls) and loses everything that varies with the data.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import sentry_sdk
from sentry_sdk.integrations import Integration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.utils import BadDsn

from dicomweb.settings import SettingError, Settings

_UID = re.compile(r"\d+(\.\d+){3,}")


def report_errors(settings: Settings, program: str) -> None:
    """Report unhandled exceptions and logged errors of this process from now on; without a DSN nothing happens.

    program: ``web``, ``workers`` or ``watcher``. Raises SettingError when the DSN cannot be understood.
    """
    dsn = settings["sentry.dsn"]
    if not dsn:
        return
    integrations: list[Integration] = [LoggingIntegration(level=None)]
    if program == "web":
        # Imported only here: the other programs must not load a web framework.
        from sentry_sdk.integrations.pyramid import PyramidIntegration

        integrations.append(PyramidIntegration())
    try:
        sentry_sdk.init(
            dsn,
            integrations=integrations,
            auto_enabling_integrations=False,
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            auto_session_tracking=False,
            before_send=scrub,  # type: ignore[arg-type]
        )
    except BadDsn:
        raise SettingError("sentry.dsn (SENTRY_DSN): the given value is not a DSN.") from None
    sentry_sdk.set_tag("program", program)


def scrub(event: dict[str, Any], _hint: dict[str, Any]) -> dict[str, Any]:
    """Take everything out of an event that could carry patient data; Sentry's SDK calls this before it sends."""
    for name in ("user", "extra", "breadcrumbs"):
        event.pop(name, None)
    if "request" in event:
        request = event["request"]
        event["request"] = {
            "method": request.get("method", ""),
            "url": _without_uids(urlsplit(request.get("url", ""))._replace(query="", fragment="").geturl()),
            "headers": dict.fromkeys(request.get("headers", ()), ""),
        }
    if "transaction" in event:
        event["transaction"] = _without_uids(event["transaction"])
    if "logentry" in event:
        event["logentry"] = {"message": event["logentry"].get("message", "")}
    for exception in event.get("exception", {}).get("values", ()):
        exception["value"] = ""
        for frame in exception.get("stacktrace", {}).get("frames", ()):
            frame.pop("vars", None)
    return event


def _without_uids(address: str) -> str:
    return _UID.sub("<uid>", address)
