"""What a transaction of DICOMweb is called, where it is and what it answers with: one row a transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dicomweb.security import Permission


class Parameter(NamedTuple):
    """A query parameter. schema: of its value, as OpenAPI has it."""

    name: str
    sentence: str
    schema: dict[str, Any] = {"type": "string"}


class Transaction(NamedTuple):
    """One transaction.

    name: the Standard's, in snake case: ``search_for_studies``. path: below the prefix, ``/studies/{study}``. view: a function of
    the request. sentence: what it does. answers: the media types it gives. statuses: beside 200 and those that all have (400, 401, 403,
    404, 429, 503). takes: the media types of the body.
    """

    name: str
    method: str
    path: str
    view: Callable[[Any], Any]
    permission: Permission
    sentence: str
    answers: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = (400, 406)
    takes: tuple[str, ...] = ()
