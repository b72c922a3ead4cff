"""Addresses begin with the setting, else with the client's name for us and the port that the server listens on."""

from pathlib import Path

import pytest
from pyramid.request import Request

from dicomweb.rs import uris
from dicomweb.settings import SettingError, Settings


def request(public_url: str = "", *, host: str | None = "pacs:6543", port: str = "6543", scheme: str = "http", script: str = "") -> Request:
    made = Request.blank("/dicom-web/studies", environ={"SERVER_PORT": port, "SERVER_NAME": "127.0.0.1", "wsgi.url_scheme": scheme, "SCRIPT_NAME": script})
    if host is None:
        del made.environ["HTTP_HOST"]
    else:
        made.environ["HTTP_HOST"] = host

    class Registry:
        settings = {"dicomweb": Settings({"web.public_url": public_url}, environ={}, here=Path("/"))}

    made.registry = Registry()
    return made


def test_the_setting_names_the_public_address() -> None:
    assert uris.service_url(request("https://images.example.org/db/", host="evil.example")) == "https://images.example.org/db/dicom-web"


@pytest.mark.parametrize(
    ("host", "port", "scheme", "expected"),
    [
        ("pacs:6543", "6543", "http", "http://pacs:6543"),
        ("pacs", "6543", "http", "http://pacs:6543"),
        ("pacs:1", "6543", "http", "http://pacs:6543"),
        ("pacs", "80", "http", "http://pacs"),
        ("pacs", "443", "https", "https://pacs"),
        ("[::1]:6543", "6543", "http", "http://[::1]:6543"),
        ('"><script>', "6543", "http", "http://127.0.0.1:6543"),
        ("user@pacs", "6543", "http", "http://127.0.0.1:6543"),
        ("", "6543", "http", "http://127.0.0.1:6543"),
        (None, "6543", "http", "http://127.0.0.1:6543"),
    ],
)
def test_without_it_the_port_is_the_one_the_server_listens_on(host: str | None, port: str, scheme: str, expected: str) -> None:
    assert uris.base_url(request(host=host, port=port, scheme=scheme)) == expected


def test_the_place_where_the_application_is_mounted_is_part_of_it() -> None:
    assert uris.service_url(request(script="/a b")) == "http://pacs:6543/a%20b/dicom-web"


def test_resources_are_below_one_another() -> None:
    assert uris.resource_url("b", "1") == "b/studies/1"
    assert uris.resource_url("b", "1", "2") == "b/studies/1/series/2"
    assert uris.resource_url("b", "1", "2", "3", "frames", "1") == "b/studies/1/series/2/instances/3/frames/1"
    assert uris.bulk_prefix("b", "1", "2", "3") == "b/studies/1/series/2/instances/3/bulkdata/"


def test_a_uid_that_is_none_cannot_leave_its_part_of_the_path() -> None:
    assert uris.resource_url("b", "1/../..?a#b") == "b/studies/1%2F..%2F..%3Fa%23b"


@pytest.mark.parametrize("text", ["images.example.org", "ftp://a", "http://", "http://a?b", "http://a b", "javascript:alert(1)"])
def test_a_public_address_that_is_none_stops_the_start(text: str) -> None:
    with pytest.raises(SettingError, match=r"web\.public_url"):
        Settings({"web.public_url": text}, environ={}, here=Path("/"))
