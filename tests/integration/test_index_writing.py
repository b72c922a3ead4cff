"""Writing to the index and taking out of it: many writers at once, how many statements it takes, what is left behind."""

from __future__ import annotations

import multiprocessing
import random

import pytest
import sqlalchemy as sa

from dicomweb import index
from dicomweb.db import make_engine, work
from dicomweb.index import Anywhere, Contains, Equals, Exists, Like, Member
from dicomweb.models import GROUP_SIZE, Field, GroupColumn, GroupHeader, Header, HeaderGroup, Image, PromotedNumber
from tests.statements import statements
from tests.unit.dicomweb.index import corpus
from tests.unit.dicomweb.index.corpus import Generated
from tests.unit.dicomweb.index.filled import (
    PROMOTED,
    add_images,
    add_parents,
    import_all,
    import_chunk,
    remove,
    rows_of,
)


def small_studies(studies: range, *, hard: bool = True) -> list[Generated]:
    """Give some images of every modality."""
    return [image for number in studies for image in corpus.images(number, corpus.MIXED, odd=0.5, hard=hard, largest_series=12)]


def member(series_id: int, elements: dict[str, str], vr: str = "LO") -> Member:
    """Make an image of some texts."""
    return Member(series_id, "CT", [(path, vr, (text,)) for path, text in elements.items()], {}, {})


def image_of(uid: str, elements: dict[str, str], vr: str = "LO") -> Generated:
    """Make an image of some texts in series 1."""
    return Generated(uid, member(1, elements, vr))


def test_headers_come_back_byte_by_byte(engine: sa.Engine) -> None:
    imported = import_all(engine, small_studies(range(8)))

    with work(engine, read_only=True) as dbsession:
        headers = index.read_headers(dbsession, list(imported), bulk_prefix=lambda key: b"/%d/" % key)
        metas = index.read_meta(dbsession, list(imported))
        missing = index.read_headers(dbsession, [1, max(imported) + 1, max(imported) + GROUP_SIZE], bulk_prefix=lambda key: b"")
    for key, image in imported.items():
        elements = b",".join(b'"%s":%s' % (tag.encode(), element) for tag, element in image.member.json.items())
        assert headers[key] == b"{" + elements.replace(b'"\\u00017FE00010"', b'"/%d/7FE00010"' % key) + b"}"
        assert metas[key] == image.member.meta
    assert missing == {}


def test_keys_are_in_the_order_given_and_never_come_again(engine: sa.Engine) -> None:
    images = small_studies(range(2))
    first = import_all(engine, images, chunk=4096)
    assert list(first.values()) == images
    with work(engine) as dbsession:
        dbsession.execute(sa.delete(Image))
        index.delete_groups(dbsession, {key // GROUP_SIZE for key in first})
    second = import_all(engine, images, chunk=4096)

    assert min(second) // GROUP_SIZE > max(first) // GROUP_SIZE


def test_the_number_of_statements_does_not_depend_on_what_is_done(engine: sa.Engine) -> None:
    images = small_studies(range(20, 26))
    with work(engine) as dbsession:
        add_parents(dbsession, {image.member.series_id for image in images})
    import_chunk(engine, images[-3:])
    numbers: dict[str, set[int]] = {}
    keys = []
    for part in (images[:2], images[2:40], images[40:-3]):
        prepared = index.prepare([image.member for image in part], promoted=PROMOTED)
        index.ensure_fields(engine, prepared)
        with statements(engine) as again:
            index.ensure_fields(engine, prepared)
        with work(engine) as dbsession, statements(engine) as ran:
            written = index.write(dbsession, prepared, 1)
            numbers.setdefault("write", set()).add(len(ran))
            add_images(dbsession, part, written, 1)
        numbers.setdefault("ensure_fields", set()).add(len(again))
        keys.append(written)
    expression = index.And((Exists("00080018"), index.Or((Contains("00080060", "T"), Anywhere("gadovist"), Like("00100010", "S*")))))
    with work(engine, read_only=True) as dbsession:
        for some in keys:
            for name, ask in (
                ("read_headers", lambda some=some: index.read_headers(dbsession, some, bulk_prefix=lambda key: b"")),
                ("read_meta", lambda some=some: index.read_meta(dbsession, some)),
                ("count", lambda: index.count(dbsession, expression)),
                ("page", lambda some=some: index.page(dbsession, expression, limit=len(some))),
                ("keys", lambda: list(index.keys(dbsession, expression))),
                ("facet", lambda some=some: index.facet(dbsession, expression, "00080060", len(some))),
                ("series_of", lambda: index.series_of(dbsession, expression)),
                ("list_fields", lambda some=some: index.list_fields(dbsession, limit=len(some))),
            ):
                with statements(engine) as ran:
                    ask()
                numbers.setdefault(name, set()).add(len(ran))
    for some in keys:
        with work(engine) as dbsession, statements(engine) as ran:
            index.remove_images(dbsession, some[:-1])
            numbers.setdefault("remove_images", set()).add(len(ran))
    with work(engine) as dbsession:
        for some in keys:
            with statements(engine) as ran:
                index.delete_groups(dbsession, {key // GROUP_SIZE for key in some})
            numbers.setdefault("delete_groups", set()).add(len(ran))
    # Removing takes more when a group becomes empty beside others that do not.
    assert max(numbers.pop("remove_images")) <= 26
    assert {name: len(found) for name, found in numbers.items() if len(found) > 1} == {}
    assert {name: max(found) for name, found in numbers.items() if name in ("ensure_fields", "read_headers", "count", "page", "facet")} == {
        "ensure_fields": 1,
        "read_headers": 1,
        "count": 3,
        "page": 3,
        "facet": 3,
    }


def test_a_path_without_its_row_is_an_error_and_not_a_wrong_row(engine: sa.Engine) -> None:
    prepared = index.prepare([member(1, {"00100010": "A"})])
    with work(engine) as dbsession:
        add_parents(dbsession, [1])
    with pytest.raises(index.UnknownFields), work(engine) as dbsession:
        index.write(dbsession, prepared, 1)
    index.ensure_fields(engine, prepared)
    # The database is restored from an older copy: nothing remembered may be wrong now.
    with work(engine) as dbsession:
        dbsession.execute(sa.delete(Field))
        dbsession.execute(sa.insert(Field), [{"path": "00100020", "vr": "LO", "promoted": False}, {"path": "00100010", "vr": "PN", "promoted": False}])
    index.ensure_fields(engine, prepared)
    keys = import_chunk(engine, [image_of("1", {"00100010": "A"})])
    with work(engine, read_only=True) as dbsession:
        assert list(index.keys(dbsession, Equals("00100010", "A"))) == keys
        assert index.count(dbsession, Exists("00100020")) == 0


def test_a_transaction_that_is_rolled_back_leaves_no_row(engine: sa.Engine) -> None:
    import_all(engine, small_studies(range(1)))
    with work(engine, read_only=True) as dbsession:
        before = rows_of(dbsession)
    prepared = index.prepare([image.member for image in small_studies(range(1, 2))], promoted=PROMOTED)
    index.ensure_fields(engine, prepared)

    def fail_at_the_end() -> None:
        with work(engine) as dbsession:
            add_parents(dbsession, {10 + number for number in range(1, 6)})
            index.write(dbsession, prepared, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_at_the_end()
    with work(engine, read_only=True) as dbsession:
        after = rows_of(dbsession)
    assert {**after, "field": before["field"]} == before


def test_a_value_that_only_a_removed_image_had_is_found_nowhere(engine: sa.Engine) -> None:
    common = {f"0018{number:04X}": "same" for number in range(20)}
    images = [image_of(str(number), common | {"00100010": f"Name {number}", "00204000": f"secret {number}"}) for number in range(12)]
    odd = [image_of("odd", {"00100010": "Odd", "00104000": "alone with this"})]
    keys = list(import_all(engine, [*images, *odd]))
    remove(engine, [keys[5], keys[12]])

    with work(engine, read_only=True) as dbsession:
        for expression in (Equals("00100010", "Name 5"), Contains("00204000", "SECRET 5"), Anywhere("secret 5"), Anywhere("alone"), Exists("00104000")):
            assert index.count(dbsession, expression) == 0
            assert index.page(dbsession, expression, limit=5) == []
        assert ("secret 5", 1) not in index.facet(dbsession, index.everything(), "00204000", 100)
        assert index.count(dbsession, Anywhere("secret")) == 11
        words = "\n".join(str(row) for table in (Header, GroupColumn) for row in dbsession.execute(sa.select(*table.__table__.columns)))
        assert "ecret 4" in words
        assert "ecret 5" not in words
        assert "lone with" not in words
        assert b"secret 5" not in b"".join(index.read_headers(dbsession, keys, bulk_prefix=lambda key: b"").values())


def test_removing_what_is_not_there_changes_nothing(engine: sa.Engine) -> None:
    keys = list(import_all(engine, small_studies(range(1))))
    remove(engine, keys[:1])
    with work(engine, read_only=True) as dbsession:
        before = rows_of(dbsession)
        left = index.count(dbsession, index.everything())
    remove(engine, [*keys[:1], 3, max(keys) + 1, max(keys) + 10 * GROUP_SIZE])
    with work(engine) as dbsession:
        index.delete_groups(dbsession, [10**9])
        index.remove_images(dbsession, [])
        index.delete_groups(dbsession, [])

    with work(engine, read_only=True) as dbsession:
        assert rows_of(dbsession) == before
        assert index.count(dbsession, index.everything()) == left == len(keys) - 1


def test_a_group_counts_its_images_and_series_after_each_removal(engine: sa.Engine) -> None:
    shared = {f"0018{number:04X}": "same" for number in range(20)}
    tiny = [Generated(str(series), member(series, shared | {"0020000E": str(series)})) for series in (1, 1, 2)]
    keys = list(import_all(engine, tiny))
    assert len({key // GROUP_SIZE for key in keys}) == 1

    for gone, images, series in ((keys[0], 2, [1, 2]), (keys[1], 1, [2])):
        remove(engine, [gone])
        with work(engine, read_only=True) as dbsession:
            assert dbsession.scalar(sa.select(HeaderGroup.images)) == images
            assert index.series_of(dbsession, index.everything()) == series


def test_promoted_rows_follow_the_setting(engine: sa.Engine) -> None:
    images = small_studies(range(6), hard=False)
    with work(engine) as dbsession:
        add_parents(dbsession, {image.member.series_id for image in images})
    import_chunk(engine, images, promoted=("00200013",))

    def rows() -> list[tuple[str, float, int]]:
        with work(engine, read_only=True) as dbsession:
            found = sa.select(Field.path, PromotedNumber.number, PromotedNumber.header_key).join(Field, Field.id == PromotedNumber.field_id)
            return sorted((path, number, key) for path, number, key in dbsession.execute(found))

    only_instance_number = rows()
    assert {path for path, _, _ in only_instance_number} == {"00200013"}
    with work(engine) as dbsession:
        index.promote(dbsession, ["00201041", "00200013"])
    both = rows()
    assert [row for row in both if row[0] == "00200013"] == only_instance_number
    assert {path for path, _, _ in both} == {"00201041", "00200013"}
    with work(engine) as dbsession:
        index.promote(dbsession, [])
    assert rows() == []
    with work(engine) as dbsession:
        index.promote(dbsession, ["00201041", "00200013"])
    assert rows() == both


def test_fields_are_listed_with_images_and_examples(engine: sa.Engine) -> None:
    images = small_studies(range(12))
    imported = import_all(engine, images)
    expected: dict[str, set[int]] = {}
    for key, image in imported.items():
        for path, _, _ in image.member.elements:
            expected.setdefault(path, set()).add(key)
    gone = sorted(imported)[::3]
    remove(engine, gone)
    kept = {path: len(keys.difference(gone)) for path, keys in expected.items()}
    kept = {path: number for path, number in kept.items() if number}

    with work(engine, read_only=True) as dbsession:
        listed = index.list_fields(dbsession, limit=200)
        assert [found.path for found in listed] == sorted(kept)[:200]
        assert {found.path: found.images for found in listed} == kept
        assert index.count_fields(dbsession) == len(kept) == len(index.field_paths(dbsession))
        assert index.summarise_fields(dbsession, ["00100010", "00080060", "no such path"]) == [
            found for found in listed if found.path in ("00100010", "00080060")
        ]
        private = [found for found in listed if found.path.startswith("0019[")]
        assert index.list_fields(dbsession, prefix="0019[", limit=50) == private
        assert index.list_fields(dbsession, prefix="0019[", after=private[0].path, limit=50) == private[1:]
        assert index.list_fields(dbsession, prefix="0019[", offset=1, limit=1) == private[1:2]
        assert index.count_fields(dbsession, prefix="0019[") == len(private)
        assert index.list_fields(dbsession, prefix="0019%", limit=50) == []
        for found in listed:
            texts = {text for text, _ in index.facet(dbsession, index.everything(), found.path, 10_000)}
            assert 0 < len(found.examples) <= 5
            assert {example for example in found.examples if len(example) < 200} <= texts


def _import_overlapping(url: str, worker: int, studies: list[int], barrier: multiprocessing.synchronize.Barrier) -> None:
    engine = make_engine(url)
    order = studies.copy()
    random.Random(worker).shuffle(order)
    barrier.wait()
    for number in order:
        images = [Generated(f"{worker}.{image.uid}", image.member) for image in small_studies(range(number, number + 1))]
        for start in range(0, len(images), 16):
            keys = import_chunk(engine, images[start : start + 16])
            if (start // 16 + worker) % 3 == 0:
                remove(engine, keys[::2])
            elif (start // 16 + worker) % 3 == 1:
                with work(engine) as dbsession:
                    dbsession.execute(sa.delete(Image).where(Image.header_key.in_(keys)), execution_options={"synchronize_session": False})
                    index.delete_groups(dbsession, {key // GROUP_SIZE for key in keys})
    engine.dispose()


def test_five_processes_write_and_remove_the_same_values_at_once(database_url: str) -> None:
    engine = make_engine(database_url)
    studies = list(range(70, 75))
    with work(engine) as dbsession:
        add_parents(dbsession, corpus.series_ids(range(70, 75)))
    engine.dispose()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(5)
    processes = [context.Process(target=_import_overlapping, args=(database_url, worker, studies, barrier), daemon=True) for worker in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 5

    by_uid = {image.uid: image for image in small_studies(range(70, 75))}
    with work(engine, read_only=True) as dbsession:
        stored = {key: by_uid[path.split(".", 1)[1]] for key, path in dbsession.execute(sa.select(Image.header_key, Image.path))}
        assert len(stored) > 50
        assert list(index.keys(dbsession, index.everything())) == sorted(stored)
        used = sa.select(GroupHeader.header_id).where(GroupHeader.field_id == Header.field_id)
        lost = sa.select(sa.func.count()).select_from(GroupHeader).where(~sa.exists().where(Header.id == GroupHeader.header_id))
        assert dbsession.scalar(lost) == 0
        assert dbsession.scalar(sa.select(sa.func.count()).select_from(Header).where(Header.id.not_in(used))) == 0
        for uid in sorted(by_uid)[::7]:
            expected = sorted(key for key, image in stored.items() if image.uid == uid)
            assert list(index.keys(dbsession, Equals("00080018", uid))) == expected
        assert index.count(dbsession, Anywhere("hospital")) == len(stored)
    engine.dispose()
