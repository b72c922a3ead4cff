"""Packs on a real disk: offsets, what is taken back, what a full or broken disk leaves, what is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomweb import storage as storage_module
from dicomweb.storage import BytesMissing, FileRange, Storage, StorageFailed, StorageFull
from tests.importing import largest_file


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "storage")


def packs(storage: Storage) -> list[str]:
    """What is on the disk, empty folders too."""
    return sorted(str(path.relative_to(storage.root)) for path in storage.root.rglob("*"))


def test_each_file_of_a_pack_is_read_back_as_it_was(storage: Storage) -> None:
    files = [os.urandom(size) for size in (1, 5000, 3, 70_000)]
    pack = storage.write_pack(1, 2, 1)
    offsets = [pack.append(data) for data in files[:3]]
    where = pack.append_blocks(iter([files[3][:30_000], files[3][30_000:]]))
    pack.close()
    assert [
        storage.range(pack.name, offset, len(data)).read() for offset, data in zip(offsets, files, strict=False)
    ] == files[:3]
    assert where.read() == files[3]
    assert b"".join(where.stream(block=999)) == files[3]
    assert where.pread(29_990, 20) == files[3][29_990:30_010]
    assert where.pread(69_990, 500) == files[3][69_990:]
    assert where.pread(80_000, 5) == b""


def test_a_pack_that_was_never_written_leaves_nothing(storage: Storage) -> None:
    pack = storage.write_pack(1, 2, 1)
    pack.close()
    pack.abandon()
    assert packs(storage) == []


def test_a_file_after_the_only_one_was_taken_back_lies_where_it_is_said_to_lie(storage: Storage) -> None:
    pack = storage.write_pack(1, 2, 1)
    pack.withdraw(pack.append(b"changed while it was read"), 25)
    assert packs(storage) == []
    offset = pack.append(b"another")
    pack.close()
    assert storage.range(pack.name, offset, 7).read() == b"another"


@pytest.mark.parametrize("closed", [False, True])
def test_what_is_taken_back_is_no_longer_on_the_disk(storage: Storage, closed: bool) -> None:
    pack = storage.write_pack(1, 2, 1)
    secret = b"secret" * 2000
    offset = pack.append(secret)
    kept = pack.append(b"kept")
    if closed:
        pack.close()
    pack.withdraw(offset, len(secret))
    if not closed:
        pack.close()
    assert b"secret" not in storage.path(pack.name).read_bytes()
    assert storage.range(pack.name, kept, 4).read() == b"kept"
    pack.withdraw(kept, 4)
    assert packs(storage) == []


def test_a_file_whose_blocks_end_in_an_error_leaves_no_trace(storage: Storage) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"the first block"
        raise ValueError("the source changed")

    pack = storage.write_pack(1, 2, 1)
    with pytest.raises(ValueError, match="the source changed"):
        pack.append_blocks(blocks())
    assert packs(storage) == []
    offset = pack.append(b"next")
    with pytest.raises(ValueError, match="the source changed"):
        pack.append_blocks(blocks())
    after = pack.append(b"last")
    pack.close()
    assert storage.path(pack.name).read_bytes() == b"nextlast"
    assert (offset, after) == (0, 4)


def test_a_full_disk_is_told_apart_from_an_error_of_the_source(storage: Storage) -> None:
    pack = storage.write_pack(1, 2, 1)
    pack.append(b"small")
    with (
        largest_file(4096),
        pytest.raises(StorageFull, match="Files cannot be stored: the disk of the state folder is full"),
    ):
        pack.append(bytes(5000))
    pack.abandon()
    streamed = storage.write_pack(1, 3, 1)
    with largest_file(4096), pytest.raises(StorageFull):
        streamed.append_blocks(iter([bytes(3000), bytes(3000)]))
    assert packs(storage) == []


def test_an_unwritable_storage_is_no_error_of_the_operating_system_to_its_callers(tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("a file")
    with pytest.raises(StorageFailed, match="Files cannot be stored in the state folder: "):
        Storage(tmp_path / "storage").write_pack(1, 2, 1).append(b"x")
    assert not issubclass(StorageFailed, OSError)


def test_a_folder_that_another_chunk_takes_away_is_made_again(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making the folder of a batch and the pack in it, another worker gives up its pack and the empty folder."""
    really_open = os.open
    taken = []

    def open_late(path: Path, *arguments: int) -> int:
        if not taken and str(path).endswith(".pack"):
            taken.append(path)
            storage.discard("1/9-1.pack")
        return really_open(path, *arguments)

    monkeypatch.setattr(storage_module.os, "open", open_late)
    pack = storage.write_pack(1, 2, 1)
    pack.append(b"x")
    pack.close()
    assert len(taken) == 1
    assert packs(storage) == ["1", "1/2-1.pack"]


def test_an_attempt_that_was_overtaken_leaves_what_a_later_one_stored(storage: Storage) -> None:
    later = storage.write_pack(1, 2, 2)
    later.append(b"stored")
    later.close()

    storage.write_pack(1, 2, 1).abandon()

    assert storage.range(later.name, 0, 6).read() == b"stored"


def test_a_new_attempt_removes_what_earlier_ones_of_the_job_left(storage: Storage) -> None:
    for job, attempt in ((2, 1), (2, 2), (12, 1), (22, 1)):
        pack = storage.write_pack(1, job, attempt)
        pack.append(b"x")
        pack.close()
        (storage.root / "1" / f"{job}-{attempt}.pack").touch()
    storage.write_pack(1, 2, 3)
    assert packs(storage) == ["1", "1/12-1.pack", "1/22-1.pack"]
    storage.write_pack(1, 12, 1)
    assert packs(storage) == ["1", "1/22-1.pack"]


def test_strays_of_a_batch_go_and_what_is_kept_stays(storage: Storage) -> None:
    for batch, job in ((1, 2), (1, 3), (11, 4)):
        pack = storage.write_pack(batch, job, 1)
        pack.append(b"x")
        pack.close()
    storage.erase_strays(1, {"1/3-1.pack"})
    assert packs(storage) == ["1", "1/3-1.pack", "11", "11/4-1.pack"]
    storage.erase_strays(1, ())
    assert packs(storage) == ["11", "11/4-1.pack"]


def test_a_discarded_range_reads_as_zeros_and_its_neighbours_stay(storage: Storage) -> None:
    pack = storage.write_pack(1, 2, 1)
    for data in (b"a" * 10_000, b"b" * 10_000, b"c" * 10_000):
        pack.append(data)
    pack.close()
    storage.discard(pack.name, 10_000, 10_000)
    assert storage.path(pack.name).read_bytes() == b"a" * 10_000 + bytes(10_000) + b"c" * 10_000
    storage.discard(pack.name)
    storage.discard(pack.name)
    storage.discard(pack.name, 0, 5)
    assert packs(storage) == []


def test_bytes_that_are_gone_are_told_without_their_path(storage: Storage, tmp_path: Path) -> None:
    pack = storage.write_pack(1, 2, 1)
    pack.append(b"0123456789")
    pack.close()
    os.truncate(storage.path(pack.name), 4)
    with pytest.raises(BytesMissing, match="shorter than it was") as shorter:
        storage.range(pack.name, 0, 10).read()
    with pytest.raises(BytesMissing, match="shorter"):
        list(storage.range(pack.name, 0, 10).stream(block=4))
    storage.path(pack.name).unlink()
    with pytest.raises(BytesMissing, match="cannot be opened: No such file") as missing:
        storage.range(pack.name, 0, 10).read()
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(BytesMissing):
        FileRange.at(str(tmp_path), "link", 1).read()
    assert str(tmp_path) not in str(shorter.value) + str(missing.value)


def test_a_pack_and_the_names_that_lead_to_it_are_durable(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def note(really: object) -> object:
        def sync(fd: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{fd}"))
            really(fd)  # type: ignore[operator]

        return sync

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(storage_module.os, name, note(getattr(os, name)))
    storage.root.mkdir()
    pack = storage.write_pack(1, 2, 1)
    pack.append(b"x")
    pack.close()
    root = str(storage.root)
    assert synced == [root, f"{root}/1/2-1.pack", f"{root}/1"]


def test_usage_is_told_before_anything_was_stored(storage: Storage) -> None:
    used, free, total = storage.usage()
    assert 0 < used <= total
    assert 0 <= free <= total
