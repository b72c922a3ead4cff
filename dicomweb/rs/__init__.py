"""DICOMweb (PS3.18) below ``/dicom-web``: search, retrieve and store, for viewers and programs written for any server.

A module here is one service, such as ``searching`` (QIDO-RS). It names its transactions in ``TRANSACTIONS``: for each the name that the
Standard gives it, method and path, the view, the permission, and the media types it answers with. From these the routes are
made, and the capabilities that OPTIONS tells (``capabilities``). A view

* takes the request; UIDs of the path are in ``request.matchdict`` (``study``, ``series``, ``instance``);
* asks ``negotiation.choose`` what the client takes, ``instances.find`` which images are meant, ``uris`` for addresses;
* gives a response, streamed with ``streaming.Stream`` when it may be long; what cannot be done is an ``errors.Refused``.

Everything is behind the lockdown. A change (POST) needs no token against forged requests, because the clients know none, but what a
browser says comes from another site is refused; the cookie of a session is not sent with such requests anyway (SameSite).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NoReturn

from pyramid.httpexceptions import HTTPMethodNotAllowed

from dicomweb import security
from dicomweb.resources import Root
from dicomweb.rs import capabilities, errors, frames, metadata, rendering, retrieving, searching, storing, uri
from dicomweb.rs.transactions import Transaction
from dicomweb.rs.uris import PREFIX

MODULES: tuple[Any, ...] = (capabilities, searching, metadata, storing, retrieving, rendering, uri)


def transactions() -> list[Transaction]:
    """Give all transactions, in the order of the modules."""
    return [transaction for module in MODULES for transaction in module.TRANSACTIONS]


def _from_here(view: Any) -> Any:
    """Refuse a change that another web site asked for."""

    def checked(context: Any, request: Any) -> Any:
        if request.method not in security.SAFE_METHODS:
            security.needs_csrf_token(request)
        return view(context, request)

    return checked


def _not_allowed(methods: list[str]) -> Any:
    def refuse(request: Any) -> NoReturn:
        error = HTTPMethodNotAllowed()
        error.allow = methods
        raise error

    return refuse


def _routes(config: Any) -> None:
    by_path: dict[str, list[Transaction]] = defaultdict(list)
    for transaction in transactions():
        by_path[transaction.path].append(transaction)
    for path, here in by_path.items():
        name = f"rs:{path}"
        config.add_route(name, path, factory=Root)
        for transaction in here:
            config.add_view(
                transaction.view,
                route_name=name,
                request_method=transaction.method,
                permission=transaction.permission,
                require_csrf=False,
                decorator=_from_here,
            )
        methods = sorted({transaction.method for transaction in here} | {"OPTIONS"} | ({"HEAD"} if any(t.method == "GET" for t in here) else set()))
        config.add_view(capabilities.tell_methods(methods, path), route_name=name, request_method="OPTIONS", permission=security.Permission.USE)
        config.add_view(_not_allowed(methods), route_name=name, permission=security.Permission.USE, require_csrf=False)


def _base(config: Any) -> None:
    for name, path in (("rs", PREFIX), ("rs.slash", PREFIX + "/")):
        config.add_route(name, path, factory=Root)
        config.add_view(capabilities.tell_methods(["OPTIONS"]), route_name=name, request_method="OPTIONS", permission=security.Permission.USE)
        # Where dicomweb-client of npm asks for it, which knows one address only.
        config.add_view(uri.retrieve_by_uri, route_name=name, request_method="GET", request_param="requestType", permission=security.Permission.IMAGE_READ)
        config.add_view(_not_allowed(["OPTIONS"]), route_name=name, permission=security.Permission.USE, require_csrf=False)


def includeme(config: Any) -> None:
    """Add the services; their error answers are for everything below the prefix, whoever fails there."""
    config.registry["rs.transactions"] = transactions()
    config.include(errors)
    config.include(frames)
    config.include(storing)
    config.include(_routes, route_prefix=PREFIX)
    _base(config)
