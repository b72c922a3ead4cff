import json
import os
from pathlib import Path

import pytest

from dicomweb import assets
from dicomweb.assets import AssetsMissing, asset_url, up_to_date


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    frontend, dist = tmp_path / "frontend", tmp_path / "dist"
    (frontend / "src").mkdir(parents=True)
    dist.mkdir()
    monkeypatch.setattr(assets, "FRONTEND", frontend)
    monkeypatch.setattr(assets, "DIST", dist)
    return dist


def write(dist: Path, at: int, **names: str) -> None:
    path = dist / "manifest.json"
    path.write_text(json.dumps({f"src/{name.replace('_', '.')}": {"file": file} for name, file in names.items()}))
    os.utime(path, (at, at))


def test_a_source_is_found_under_the_name_it_was_built_to(dist: Path) -> None:
    write(dist, 1000, app_js="assets/app-1.js")
    assert asset_url("app.js") == "/static/dist/assets/app-1.js"


def test_a_new_build_is_noticed_by_a_running_server(dist: Path) -> None:
    write(dist, 1000, app_js="assets/app-1.js")
    asset_url("app.js")
    write(dist, 2000, app_js="assets/app-2.js")
    assert asset_url("app.js") == "/static/dist/assets/app-2.js"


def test_what_is_not_there_is_said_with_what_to_do(dist: Path) -> None:
    with pytest.raises(AssetsMissing, match=r"python -m dicomweb\.assets"):
        asset_url("app.js")
    write(dist, 1000, app_js="assets/app-1.js")
    with pytest.raises(AssetsMissing, match=r"vite\.config\.mjs"):
        asset_url("other.js")


def test_a_build_is_needed_after_a_source_has_changed(dist: Path) -> None:
    source = dist.parent / "frontend" / "src" / "app.js"
    source.touch()
    os.utime(source, (1500, 1500))
    assert not up_to_date()
    write(dist, 1000)
    assert not up_to_date()
    write(dist, 2000)
    assert up_to_date()


def test_every_package_has_an_exact_version_and_the_lock_file_names_no_host() -> None:
    frontend = Path(__file__).resolve().parents[3] / "frontend"
    package = json.loads((frontend / "package.json").read_text())
    for version in (package["dependencies"] | package["devDependencies"]).values():
        assert version[0].isdigit()
        assert version.count(".") == 2
    lock = json.loads((frontend / "package-lock.json").read_text())
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]
