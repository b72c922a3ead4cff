"""The web server for ``pserve``: waitress at the address of the settings, with limits a local application needs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import waitress

from dicomweb import passwords
from dicomweb.settings import SettingError, Settings
from dicomweb.supervisor import CannotStart, make_folders

# No page and no call of the API takes more; what is larger would be spooled to a disk before anybody is asked who he is.
MAX_BODY_BYTES = 16 << 20


def serve(global_config: dict[str, str], **_options: str) -> Callable[[Any], None]:
    """Give the function that serves an application; ``[server:main]`` of the ini file names this one."""
    try:
        settings = Settings.load(global_config["__file__"])
        make_folders(settings)
        # `dicomweb run` has done this before; where the web server is started alone nobody else would.
        if new_password := passwords.ensure(settings):
            sys.stderr.write(f"The password is {new_password} (shown only now; `dicomweb password` sets another one).\n")
    except (SettingError, CannotStart, passwords.PasswordRefused) as error:
        sys.exit(str(error))

    def serve_application(application: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            server = waitress.create_server(application, **server_options(settings))
        except OSError as error:
            sys.stderr.write(f"The web server cannot listen on {settings['web.host']}:{settings['web.port']}: {error.strerror}.\n")
            sys.stderr.flush()
            # Not sys.exit: pserve takes that for a wish to stop and ends with the exit code 0.
            os._exit(1)
        server.run()

    return serve_application


def server_options(settings: Settings) -> dict[str, Any]:
    """Give waitress's options."""
    options: dict[str, Any] = {
        "host": settings["web.host"],
        "port": settings["web.port"],
        "threads": settings["web.threads"],
        "ident": "",
        "max_request_header_size": 64 << 10,
        "max_request_body_size": MAX_BODY_BYTES,
        "connection_limit": 500,
        "channel_timeout": 120,
        "clear_untrusted_proxy_headers": True,
    }
    if settings["web.trusted_proxy"]:
        options["trusted_proxy"] = settings["web.trusted_proxy"]
        options["trusted_proxy_headers"] = "x-forwarded-for x-forwarded-proto x-forwarded-host"
    return options
