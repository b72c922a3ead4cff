"""How OHIF is prepared: what is kept, what is changed in it, and what is refused."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest

from dicomweb import ohif
from tests.ohif_files import BUNDLE, MEMBERS, install_small, write_package


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where OHIF would be installed: nothing is there."""
    monkeypatch.setattr(ohif, "INSTALLED", tmp_path / "installed" / "ohif")
    return ohif.INSTALLED


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of npm, which asks no registry."""
    if shutil.which("node") is None:
        pytest.skip("node")
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


def test_every_address_begins_with_the_prefix(tmp_path: Path) -> None:
    ohif.unpack(write_package(tmp_path / "p.tgz"), tmp_path / "out")
    read = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert read["app.1.js"] == BUNDLE.replace(b'"/"', b'"/ohif/"')
    assert read["worker.2.js"] == b'o.p = "/ohif/"; const p = "/";'
    assert read["slides.js"] == b"browserImportFunction('/ohif/dicom-microscopy-viewer/v.js')"
    assert read["app.css"] == b"a{src:url(/ohif/a.woff2)} b{src:url(data:x)} c{src:url(//elsewhere)}"
    assert read["manifest.json"] == b'{"icons": [{"src": "/ohif/assets/x.png"}]}'
    for address in (b'content="/ohif/assets/x.png"', b'href="/ohif/app.css"', b'PUBLIC_URL="/ohif/"', b'src="/ohif/app.1.js"'):
        assert address in read["index.html"]


def test_what_the_server_does_not_offer_is_left_out_and_the_licence_is_kept(tmp_path: Path) -> None:
    ohif.unpack(write_package(tmp_path / "p.tgz"), tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {
        "LICENSE", "index.html", "app.1.js", "app.1.js.gz", "worker.2.js", "slides.js", "dicom-microscopy-viewer/v.js", "app.css",
        "manifest.json", "decoder.wasm", "decoder.wasm.gz", "a.woff2", "assets/x.png",
    }  # fmt: skip


def test_what_is_compressed_is_the_same(tmp_path: Path) -> None:
    ohif.unpack(write_package(tmp_path / "p.tgz"), tmp_path / "out")
    packed = (tmp_path / "out" / "app.1.js.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "out" / "app.1.js").read_bytes()
    assert len(packed) < len(BUNDLE) / 10


@pytest.mark.parametrize("name", ["package/dist/../../outside.js", "package/dist//etc/x.js", "package/dist/a/.hidden.js"])
def test_a_package_with_a_strange_name_in_it_is_refused(tmp_path: Path, name: str) -> None:
    package = write_package(tmp_path / "p.tgz", {**MEMBERS, name: b""})
    with pytest.raises(ohif.CannotInstall, match="not expected"):
        ohif.unpack(package, tmp_path / "out" / "in")
    assert not (tmp_path / "outside.js").exists()


@pytest.mark.parametrize("name", ["package/dist/app.css", "package/dist/index.html", "package/dist/manifest.json"])
def test_a_package_that_is_built_in_another_way_is_refused(tmp_path: Path, name: str) -> None:
    package = write_package(tmp_path / "p.tgz", {**MEMBERS, name: b"nothing to move"})
    with pytest.raises(ohif.CannotInstall, match="built in another way"):
        ohif.unpack(package, tmp_path / "out")


def test_scripts_in_a_page_are_named_by_their_hashes() -> None:
    # The example of the specification (CSP3 8.2), without the line breaks of its page.
    html = b"<p></p><script>alert('Hello, world.');</script><script src=x></script>"
    assert ohif.inline_scripts(html) == ["'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"]


def test_another_package_than_the_one_that_was_tried_is_refused(place: Path, npm: Path, tmp_path: Path) -> None:
    write_package(tmp_path / "other.tgz")
    npm.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {tmp_path}/other.tgz "${{last#--pack-destination=}}"\n')
    with pytest.raises(ohif.CannotInstall, match="checksum"):
        ohif.install()
    assert not place.exists()
    assert [path.name for path in place.parent.iterdir()] == [".lock"]


def test_that_npm_failed_is_said_in_a_sentence(place: Path, npm: Path) -> None:
    npm.write_text("#!/bin/sh\nexit 7\n")
    with pytest.raises(ohif.CannotInstall, match=r"npm could not fetch @ohif/app .*ended with 7.*network"):
        ohif.install()
    assert not ohif.installed()


def test_what_is_installed_is_not_installed_again(place: Path, npm: Path, tmp_path: Path) -> None:
    npm.write_text("#!/bin/sh\nexit 7\n")
    assert install_small(tmp_path) == place
    assert ohif.install() is False


def test_what_was_prepared_in_an_older_way_is_installed_again(place: Path, npm: Path, tmp_path: Path) -> None:
    npm.write_text("#!/bin/sh\nexit 7\n")
    (install_small(tmp_path) / ".ready").write_text(f"{ohif.VERSION} 0\n")
    assert not ohif.installed()
    assert ohif.files() is None
    with pytest.raises(ohif.CannotInstall):
        ohif.install()


def test_the_viewer_is_told_study_series_and_image(place: Path, tmp_path: Path) -> None:
    assert ohif.viewer_address("1.2", "1.2.3", "1.2.3.4") == ""
    install_small(tmp_path)
    assert ohif.viewer_address("1.2") == "/ohif/viewer?StudyInstanceUIDs=1.2"
    assert (
        ohif.viewer_address("1.2", "1.2.3", "1.2.3.4")
        == "/ohif/viewer?StudyInstanceUIDs=1.2&SeriesInstanceUIDs=1.2.3&initialSopInstanceUid=1.2.3.4"
    )


@pytest.mark.parametrize("uid", ["", "1.2,1.3", "1.2/3", "..", "1.2*", "1.2\\1.3", "1.2 ", "1" * 65, "<b>"])
def test_what_is_no_uid_has_no_address(place: Path, tmp_path: Path, uid: str) -> None:
    install_small(tmp_path)
    assert ohif.viewer_address(uid) == ""
    if uid:
        assert ohif.viewer_address("1.2", uid) == ""
        assert ohif.viewer_address("1.2", "1.3", uid) == ""
