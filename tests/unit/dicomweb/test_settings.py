from pathlib import Path

import pytest

from dicomweb.settings import SettingError, Settings, is_loopback


def test_the_defaults_need_neither_an_ini_file_nor_an_environment(tmp_path: Path) -> None:
    settings = Settings(environ={}, here=tmp_path)
    assert settings.var == tmp_path / "var"
    assert settings["watch.folders"] == (tmp_path / "data",)
    assert settings.database_url == f"sqlite:///{tmp_path}/var/dicomweb.sqlite"
    assert settings.broker_url == f"redis+socket://{tmp_path}/var/valkey.sock"
    assert settings.embedded_broker
    assert {settings.source(name) for name in settings} == {"default"}


def test_the_environment_wins_over_the_ini_file_and_that_over_the_default(tmp_path: Path) -> None:
    ini = {"web.port": "7001", "workers.count": "2"}
    settings = Settings(ini, environ={"DICOMWEB_PORT": "7002"}, here=tmp_path)
    assert (settings["web.port"], settings.source("web.port")) == (7002, "environment")
    assert (settings["workers.count"], settings.source("workers.count")) == (2, "ini file")
    assert (settings["web.threads"], settings.source("web.threads")) == (8, "default")


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings({"web.port": "7001"}, environ={"DICOMWEB_PORT": ""})["web.port"] == 7001


def test_an_unknown_variable_stops_the_start() -> None:
    with pytest.raises(SettingError, match="DICOMWEB_WACTH is not a setting"):
        Settings(environ={"DICOMWEB_WACTH": "/x"})


def test_an_unknown_name_in_one_of_our_areas_of_the_ini_file_stops_the_start() -> None:
    with pytest.raises(SettingError, match=r"watch\.folder in the ini file"):
        Settings({"watch.folder": "/x"}, environ={})


def test_names_of_the_frameworks_in_the_ini_file_are_left_alone() -> None:
    Settings({"use": "egg:dicomweb", "pyramid.reload_templates": "true"}, environ={})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("import.max_file_bytes", "4G", 4 << 30),
        ("import.max_file_bytes", "500m", 500 << 20),
        ("import.max_file_bytes", "12", 12),
        ("storage.sync", "off", False),
        ("storage.sync", "Yes", True),
        ("watch.quiet_seconds", "0.5", 0.5),
        ("index.promoted", "SliceLocation, EchoTime", ("SliceLocation", "EchoTime")),
        ("import.mode", "move", "move"),
    ],
)
def test_a_text_is_understood_by_its_kind(name: str, text: str, value: object) -> None:
    assert Settings({name: text}, environ={})[name] == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("web.port", "0"),
        ("web.port", "65536"),
        ("web.port", "http"),
        ("web.port", "-1"),
        ("web.port", "٣"),
        ("import.max_file_bytes", "4X"),
        ("import.max_file_bytes", "G"),
        ("import.max_file_bytes", "-1"),
        ("storage.sync", "maybe"),
        ("watch.scan_seconds", "nan"),
        ("watch.scan_seconds", "-1"),
        ("watch.folders", ":"),
        ("import.mode", "link"),
    ],
)
def test_a_text_that_cannot_be_understood_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(SettingError, match=name.replace(".", r"\.")):
        Settings({name: text}, environ={})


def test_several_watched_folders_are_separated_by_colons(tmp_path: Path) -> None:
    assert Settings({"watch.folders": "/in/a:b"}, environ={}, here=tmp_path)["watch.folders"] == (Path("/in/a"), tmp_path / "b")


@pytest.mark.parametrize(("var", "watched"), [("var", "var"), ("var", "var/in"), ("all/var", "all")])
def test_state_and_watched_folders_may_not_lie_inside_each_other(var: str, watched: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="must not lie inside each other"):
        Settings({"var": var, "watch.folders": watched}, environ={}, here=tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_the_lockdown_may_be_off_on_a_loopback_address(host: str) -> None:
    assert is_loopback(host)
    assert not Settings({"web.host": host, "lockdown.mode": "off"}, environ={})["lockdown.mode"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org", ""])
def test_the_lockdown_cannot_be_off_where_others_can_reach_the_server(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(SettingError, match="loopback address only"):
        Settings({"web.host": host or "*", "lockdown.mode": "off"}, environ={})




def test_load_reads_the_section_of_the_application_and_knows_where_relative_folders_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ini = tmp_path / "some.ini"
    ini.write_text("[app:main]\nuse = egg:dicomweb\nvar = state\n[other]\nvar = elsewhere\n")
    monkeypatch.chdir("/")
    assert Settings.load(ini).var == tmp_path / "state"


def test_load_says_what_is_wrong_with_the_ini_file(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is not a file"):
        Settings.load(tmp_path / "none.ini")
    (tmp_path / "bad.ini").write_text("[app:main\nx")
    with pytest.raises(SettingError, match="cannot be understood"):
        Settings.load(tmp_path / "bad.ini")


def test_dimse_is_off_and_others_must_be_named_before_they_can_reach_it() -> None:
    assert Settings({}, environ={})["dimse.port"] == 0
    assert Settings({"dimse.host": "0.0.0.0"}, environ={})["dimse.port"] == 0
    with pytest.raises(SettingError, match=r"dimse\.callers"):
        Settings({"dimse.host": "0.0.0.0", "dimse.port": "11112"}, environ={})
    named = Settings({"dimse.host": "0.0.0.0", "dimse.port": "11112", "dimse.callers": "SCANNER, OTHER"}, environ={})
    assert named["dimse.callers"] == ("SCANNER", "OTHER")


@pytest.mark.parametrize(("name", "value"), [("dimse.port", "65536"), ("dimse.port", "-1"), ("dimse.port", "x"), ("dimse.aet", "x" * 17)])
def test_what_is_no_port_and_no_title_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingError):
        Settings({name: value}, environ={})
