"""What hostile archives do to ``unpacking``: nothing but rows that say why."""

from __future__ import annotations

import io
import itertools
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicomweb.imports import Importer, Stopping
from dicomweb.imports.unpacking import ArchiveRefused, Left, Unpacked, unpack
from dicomweb.imports.uploads import distinct
from dicomweb.settings import Settings
from dicomweb.storage import Storage

Unpack = Callable[..., tuple[dict[str, bytes], dict[str, str]]]


@pytest.fixture
def unpacked(tmp_path: Path) -> Unpack:
    """A function that unpacks an archive: the files by their names for people, and the codes of what was left out."""

    numbers = itertools.count()

    def unpack_it(content: bytes, *, stopping: bool = False, **ini: str) -> tuple[dict[str, bytes], dict[str, str]]:
        here = tmp_path / str(next(numbers))
        (here / "var").mkdir(parents=True)
        settings = Settings({name.replace("__", "."): value for name, value in ini.items()}, environ={}, here=here)
        importer = Importer(sa.create_engine("sqlite://"), settings, Storage(here / "storage"), stopping=lambda: stopping)
        archive = here / "000001-1"
        archive.write_bytes(content)
        folder = here / "000001-1.1"
        results = list(unpack(importer, archive, "a.zip", folder))
        files = {one.path: one.file.read_bytes() for one in results if isinstance(one, Unpacked)}
        # On the disk there are numbers, in one folder.
        assert all(path.is_file() and path.name.isdigit() for path in folder.rglob("*"))
        assert len(files) == sum(1 for _ in folder.iterdir())
        assert sorted(here.iterdir()) == sorted([archive, folder, here / "var"])
        return files, {one.path: one.code for one in results if isinstance(one, Left)}

    return unpack_it


def packed(*files: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return target.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_files_keep_their_bytes_and_their_paths(unpacked: Unpack, method: int) -> None:
    content = bytes(range(256)) * 9000
    assert unpacked(packed(("s/1.dcm", content), ("s/", b""), ("2.dcm", b""), method=method)) == ({"a.zip/s/1.dcm": content, "a.zip/2.dcm": b""}, {})


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../evil", "evil"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\windows\\evil", "windows/evil"),
        ("a/../../b", "a/b"),
        ("..\\..\\evil", "evil"),
        ("a\nb\x1b", "a?b?"),
        ("....//x", "..../x"),
        ("..", "file"),
        ("x" * 2000, "x" * 255),
        ("\u202egnp.exe", "?gnp.exe"),
    ],
)
def test_a_name_leads_nowhere(unpacked: Unpack, name: str, shown: str) -> None:
    assert unpacked(packed((name, b"x"))) == ({f"a.zip/{shown}": b"x"}, {})


def test_a_bomb_is_refused_by_its_sizes_before_it_is_unpacked(unpacked: Unpack) -> None:
    bomb = packed(*((f"{number}", bytes(30 << 20)) for number in range(10)))
    with pytest.raises(ArchiveRefused, match="200 times") as refused:
        unpacked(bomb)
    assert refused.value.code == "archive-ratio"
    with pytest.raises(ArchiveRefused, match="more than 100,000,000 bytes"):
        unpacked(bomb, upload__archive_max_bytes="100000000", upload__archive_max_ratio="100000")
    assert len(unpacked(packed(("zeros", bytes(1 << 20))))[0]) == 1


def test_an_archive_with_too_many_files_is_refused(unpacked: Unpack) -> None:
    files = [(str(number), b"x") for number in range(11)]
    with pytest.raises(ArchiveRefused, match="more than 10 files") as refused:
        unpacked(packed(*files), upload__archive_max_files="10")
    assert refused.value.code == "archive-too-many"
    assert len(unpacked(packed(*files[:10]), upload__archive_max_files="10")[0]) == 10


def test_a_table_of_contents_that_is_too_long_is_not_even_read(unpacked: Unpack) -> None:
    many = packed(*((f"{number:0300}", b"") for number in range(400)))
    with pytest.raises(ArchiveRefused, match="more than 10 files"):
        unpacked(many, upload__archive_max_files="10")


def test_an_entry_that_is_larger_than_a_file_may_be_is_left_out(unpacked: Unpack) -> None:
    files, left = unpacked(packed(("large", b"x" * 1000), ("small", b"x")), import__max_file_bytes="999")
    assert (list(files), left) == (["a.zip/small"], {"a.zip/large": "archive-too-large"})


def test_an_entry_that_says_it_is_smaller_than_it_is_gives_no_more_than_it_says(unpacked: Unpack) -> None:
    content = bytearray(packed(("a", b"x" * 10_000)))
    at = content.index(b"PK\x01\x02")
    struct.pack_into("<L", content, at + 24, 10)
    assert unpacked(bytes(content)) == ({}, {"a.zip/a": "archive-damaged"})


def test_damaged_bytes_are_noticed(unpacked: Unpack) -> None:
    stored = bytearray(packed(("a", b"the bytes"), ("b", b"others"), method=zipfile.ZIP_STORED))
    stored[stored.index(b"the bytes")] ^= 1
    assert unpacked(bytes(stored)) == ({"a.zip/b": b"others"}, {"a.zip/a": "archive-damaged"})
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        bad = bytearray(packed(("a", bytes(range(256)) * 50), method=method))
        bad[60:90] = b"\xff" * 30
        assert unpacked(bytes(bad)) == ({}, {"a.zip/a": "archive-damaged"})


@pytest.mark.parametrize("cut", [1, 22, 60, 5000])
def test_an_archive_that_was_cut_off_is_refused(unpacked: Unpack, cut: int) -> None:
    content = packed(("a", zlib.compress(bytes(20_000), 0)), method=zipfile.ZIP_STORED)
    with pytest.raises(ArchiveRefused) as refused:
        unpacked(content[:-cut])
    assert refused.value.code == "archive-damaged"


def test_what_is_encrypted_linked_or_packed_strangely_is_left_out(unpacked: Unpack) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    device = zipfile.ZipInfo("device")
    device.external_attr = (stat.S_IFCHR | 0o666) << 16
    content = bytearray(packed((link, b"/etc/passwd"), (device, b""), ("secret", b"x"), ("odd", b"x"), ("fine", b"x"), method=zipfile.ZIP_STORED))
    for name, offset, value in ((b"secret", 8, 1), (b"odd", 10, 9)):
        entry = content.rindex(name) - 46
        struct.pack_into("<H", content, entry + offset, value)
        struct.pack_into("<H", content, content.index(name) - 30 + offset - 2, value)
    files, left = unpacked(bytes(content))
    assert list(files) == ["a.zip/fine"]
    assert left == {"a.zip/link": "archive-no-file", "a.zip/device": "archive-no-file", "a.zip/secret": "archive-encrypted", "a.zip/odd": "archive-method"}


def test_what_systems_leave_behind_is_left_out_as_such(unpacked: Unpack) -> None:
    _, left = unpacked(packed(("__MACOSX/._a", b"x"), ("s/.DS_Store", b"x"), ("Thumbs.db", b"x"), ("s/._b.dcm", b"x")))
    assert set(left.values()) == {"system-file"}
    assert len(left) == 4


def test_names_that_are_taken_get_a_number() -> None:
    assert list(distinct(["a", "a", "a (2)", "a", "b"])) == ["a", "a (2)", "a (2) (2)", "a (3)", "b"]


def test_archives_in_archives_are_unpacked_as_deep_as_the_settings_say(unpacked: Unpack) -> None:
    inner = packed(("1", b"x"), ("deeper.zip", packed(("2", b"y"))))
    outer = packed(("in.zip", inner), ("0", b"z"))
    files, left = unpacked(outer)
    assert files == {"a.zip/0": b"z", "a.zip/in.zip/1": b"x"}
    assert left == {"a.zip/in.zip/deeper.zip": "archive-too-deep"}


def test_the_bounds_hold_for_all_archives_together(unpacked: Unpack) -> None:
    inner = packed(*((str(number), b"x") for number in range(6)))
    files, left = unpacked(packed(("1.zip", inner), ("2.zip", inner)), upload__archive_max_files="10")
    assert len(files) == 6
    assert left == {"a.zip/2.zip": "archive-too-many"}


def test_a_damaged_archive_in_an_archive_is_one_error(unpacked: Unpack) -> None:
    files, left = unpacked(packed(("in.zip", packed(("1", b"x"))[:-10]), ("0", b"z")))
    assert (list(files), left) == (["a.zip/0"], {"a.zip/in.zip": "archive-damaged"})


def test_a_worker_that_has_to_stop_stops_between_entries(unpacked: Unpack) -> None:
    with pytest.raises(Stopping):
        unpacked(packed(("0", b"z")), stopping=True)


def test_bzip2_gives_no_more_at_once_than_was_asked_for(unpacked: Unpack) -> None:
    bomb = bytearray(packed(("a", bytes(32 << 20)), method=zipfile.ZIP_BZIP2))
    struct.pack_into("<L", bomb, bomb.index(b"PK\x01\x02") + 24, 10)
    tracemalloc.start()
    try:
        assert unpacked(bytes(bomb)) == ({}, {"a.zip/a": "archive-damaged"})
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_bzip2_that_was_cut_off_is_damaged(unpacked: Unpack) -> None:
    content = bytearray(packed(("a", bytes(range(256)) * 50), ("b", b"fine"), method=zipfile.ZIP_BZIP2))
    for at in (content.index(b"PK\x01\x02") + 20, content.index(b"PK\x03\x04") + 18):
        struct.pack_into("<L", content, at, 40)
    assert unpacked(bytes(content)) == ({"a.zip/b": b"fine"}, {"a.zip/a": "archive-damaged"})


def test_entries_are_counted_before_a_list_is_made_of_them(unpacked: Unpack, monkeypatch: pytest.MonkeyPatch) -> None:
    many = packed(*((f"{number:x}", b"") for number in range(1200)))
    listed: list[Path] = []
    monkeypatch.setattr(zipfile, "ZipFile", listed.append)
    with pytest.raises(ArchiveRefused, match="more than 10 files"):
        unpacked(many, upload__archive_max_files="10")
    assert listed == []


def test_an_archive_whose_table_is_not_where_it_says_is_refused(unpacked: Unpack) -> None:
    content = bytearray(packed(("a", b"x"), ("b", b"y")))
    end = content.rindex(b"PK\x05\x06")
    struct.pack_into("<L", content, end + 16, struct.unpack_from("<L", content, end + 16)[0] + 50)
    with pytest.raises(ArchiveRefused) as refused:
        unpacked(bytes(content))
    assert refused.value.code == "archive-damaged"


def test_an_entry_without_a_name_costs_only_itself(unpacked: Unpack) -> None:
    nameless = packed(("a", b"x"), ("b", b"y")).replace(b"a", b"\0")
    assert unpacked(nameless)[0]["a.zip/b"] == b"y"


def test_a_folder_that_has_bytes_is_a_file(unpacked: Unpack) -> None:
    content = packed(("s.dcm", b"x"), ("empty/", b"")).replace(b"s.dcm", b"s.dc/")
    assert unpacked(content) == ({"a.zip/s.dc": b"x"}, {})
