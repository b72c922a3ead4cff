"""Who may use the API, and what those are told who may not."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
from pyramid.interfaces import IRoutesMapper

from dicomweb.db import work
from dicomweb.models import Batch
from dicomweb.settings import Settings
from tests.functional import api_data
from tests.functional.api_data import CheckedApp, basic


def token_of(page: Any) -> str:
    found = re.search(r'data-token="([0-9a-f]{64})"', page.text)
    assert found
    return found[1]


def test_every_route_of_the_api_is_locked(api: CheckedApp) -> None:
    routes = api.app.registry.getUtility(IRoutesMapper).get_routes()
    paths = {route.pattern.replace("{id}", "1") for route in routes if route.name.startswith("api.")}
    assert len(paths) >= 20
    for path in ("/" + path.lstrip("/") for path in paths):
        for method in ("GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"):
            answer = api.stranger(method, path)
            if path.rstrip("/") == "/api":
                # The page leads browsers to the lockdown page.
                assert answer.status_int == 303
            else:
                assert answer.status_int == 401
                assert answer.json["errors"][0]["name"] == "Authorization"


def test_a_missing_or_wrong_password_is_challenged_for_basic(api: CheckedApp) -> None:
    for headers in ({}, basic("wrong"), {"Authorization": "Basic !!!"}, {"Authorization": "Bearer abc"}):
        answer = api.stranger("GET", "/api/batches", headers)
        assert answer.status_int == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_script_of_a_page_is_not_challenged_so_that_no_dialog_opens(api: CheckedApp) -> None:
    answer = api.stranger("GET", "/api/batches", {"X-Requested-With": "XMLHttpRequest"})
    assert answer.status_int == 401
    assert "Basic" not in answer.headers["WWW-Authenticate"]


def test_too_many_wrong_passwords_have_to_wait_and_the_right_one_of_a_known_program_does_not(api: CheckedApp) -> None:
    api.get("/api/batches")
    statuses = [api.stranger("GET", "/api/batches", basic(f"wrong {number}")).status_int for number in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    limited = api.stranger("GET", "/api/batches", basic("wrong"))
    assert int(limited.headers["Retry-After"]) > 0
    api.get("/api/batches", status=200)


def test_a_session_reads_without_and_changes_with_its_token(api: CheckedApp, imported: int, engine: sa.Engine) -> None:
    session = api_data.begin_session(engine)
    assert api.stranger("GET", "/api/batches", session).status_int == 200
    refused = api.stranger("DELETE", f"/api/batches/{imported}", session)
    assert refused.status_int == 400
    assert refused.json["errors"][0]["name"] == "X-CSRF-Token"
    with work(engine, read_only=True) as dbsession:
        assert dbsession.scalar(sa.select(Batch.deleting)) is False
    token = token_of(api.stranger("GET", "/api", session))
    changed = api.stranger("DELETE", f"/api/batches/{imported}", {**session, "X-CSRF-Token": token})
    assert changed.status_int == 202


def test_the_token_of_another_session_is_refused(api: CheckedApp, imported: int, engine: sa.Engine) -> None:
    mine, other = api_data.begin_session(engine), api_data.begin_session(engine)
    token = token_of(api.stranger("GET", "/api/", other))
    answer = api.stranger("DELETE", f"/api/batches/{imported}", {**mine, "X-CSRF-Token": token})
    assert answer.status_int == 400


@pytest.mark.parametrize("header", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_change_from_another_site_is_refused_whatever_it_carries(
    api: CheckedApp, imported: int, header: dict[str, str]
) -> None:
    answer = api.send("DELETE", f"/api/batches/{imported}", headers=header)
    assert answer.status_int == 400
    assert answer.json["errors"][0]["name"] == "Origin"


def test_what_does_not_exist_is_json_too(api: CheckedApp) -> None:
    for path in ("/api/nothing", "/api/batches/0", "/api/batches/01", "/api/batches/x", "/api/batches/1/nothing"):
        answer = api.send("GET", path)
        assert answer.status_int == 404
        assert answer.json["errors"][0]["description"] == "There is no such thing."


def test_a_method_that_does_not_exist_names_those_that_do(api: CheckedApp, imported: int) -> None:
    answer = api.send("PUT", f"/api/batches/{imported}")
    assert answer.status_int == 405
    assert answer.headers["Allow"] == "DELETE, GET, HEAD"


def test_an_address_that_is_not_utf8_is_a_400(api: CheckedApp) -> None:
    assert api.send("GET", "/api/batches?name=%ff").status_int == 400


def test_with_the_lockdown_off_only_this_machine_is_answered(settings: Settings) -> None:
    app = api_data.make_app(settings, **{"lockdown.mode": "off"})
    open_app = api_data.CheckedApp(app)
    try:
        assert open_app.stranger("GET", "/api/batches", {"Host": "127.0.0.1:6543"}).status_int == 200
        answer = open_app.stranger("GET", "/api/batches", {"Host": "rebound.example"})
        assert answer.status_int == 403
        assert answer.json["errors"][0]["name"] == "Host"
    finally:
        api_data.close(app)
