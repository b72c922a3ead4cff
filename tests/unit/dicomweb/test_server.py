from pathlib import Path

import pytest

from dicomweb.server import serve, server_options
from dicomweb.settings import Settings


def options(**ini: str) -> dict[str, object]:
    return server_options(Settings({name.replace("__", "."): text for name, text in ini.items()}, environ={}))


def test_waitress_listens_where_the_settings_say_and_has_limits() -> None:
    chosen = options(web__host="127.0.0.2", web__port="7001", web__threads="3")
    assert (chosen["host"], chosen["port"], chosen["threads"]) == ("127.0.0.2", 7001, 3)
    assert chosen["max_request_body_size"] == (4 << 30) + 1


def test_nobody_is_believed_about_the_clients_address_unless_named() -> None:
    assert options()["clear_untrusted_proxy_headers"] is True
    assert "trusted_proxy" not in options()
    assert options(web__trusted_proxy="10.0.0.2")["trusted_proxy"] == "10.0.0.2"


def test_a_wrong_setting_ends_pserve_with_one_sentence(tmp_path: Path) -> None:
    ini = tmp_path / "bad.ini"
    ini.write_text("[app:main]\nweb.port = none\n")
    with pytest.raises(SystemExit, match=r"web\.port"):
        serve({"__file__": str(ini)})


@pytest.mark.parametrize("bad", ["changeme", "short"])
def test_a_bad_password_ends_pserve_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    ini = tmp_path / "some.ini"
    ini.write_text("[app:main]\n")
    monkeypatch.setenv("DICOMWEB_PASSWORD", bad)
    with pytest.raises(SystemExit, match="password"):
        serve({"__file__": str(ini)})


def test_a_web_server_that_is_started_alone_tells_its_first_password_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ini = tmp_path / "some.ini"
    ini.write_text("[app:main]\n")
    serve({"__file__": str(ini)})
    assert "The password is " in capsys.readouterr().err
    serve({"__file__": str(ini)})
    assert capsys.readouterr().err == ""
