"""Names of every script are found by what a person types, and characters that mean something to databases mean nothing."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from dicomweb import query, search
from dicomweb.db import work
from tests.unit.dicomweb.search.conftest import Import

# Written in the header, and what somebody may type to find it.
NAMES = {
    "Yamada^Tarou=山田^太郎=やまだ^たろう": ["yamada*", "yamada", "tarou", "山田", "山田*", "太郎", "山田^太郎", "yamada^t*=山田*", "*山田*", "*太郎*", "*やまだ*"],
    "ﾔﾏﾀﾞ^ﾀﾛｳ=ヤマダ^タロウ": ["ヤマダ*", "*ﾀﾛｳ*"],
    "Hong^Gildong=洪^吉洞=홍^길동": ["*홍*", "*길동", "hong^*", "*洪^*", "홍", "吉洞", "洪^*"],
    "Wang^XiaoDong=王^小东": ["*小东*", "*王^小东", "王*", "小东"],
    "Zhang^XiaoDong=張^小東": ["*小東"],
    "Люкceмбypг": ["люк*", "ЛЮК*"],
    "Διονυσιος": ["διον*", "ΔΙΟΝΥΣΙΟΣ", "διονυσιος"],
    "שרון^דבורה": ["שרון*", "*דבורה", "דבורה"],
    "قباني^لنزار": ["قباني*", "*لنزار"],
    "Äneas^Rüdiger": ["aneas^*", "ÄNEAS^RÜDIGER", "*rudiger", "rudiger", "aneas^rudiger^^"],
    "Buc^Jérôme": ["buc^jerome", "*JÉRÔME"],
    "Łukasz^Żółć": ["lukasz^*", "*zolc"],
    "Ångström^Øystein": ["angstrom^*", "*oystein"],
    "Nguyễn^Đức": ["nguyen^duc"],
    "İbrahim^Çağrı": ["ibrahim^*", "*cagri"],
}
# What stands in a name too and must not find it.
OTHERS = {"Yamada^Tarou=山田^太郎=やまだ^たろう": ["山", "yamad", "yamada^", "tarou=山田", "^tarou", "太郎^"], "Äneas^Rüdiger": ["aneas^", "diger", "rudiger^aneas"]}
HOSTILE = ["100%", "50_50", "a'b", 'say "x"', "C:\\temp", "DROP TABLE image; --", "[a-z]*", "x OR 1=1", "NEAR(a b)", "a*", "?", "\x1b[31m", "{path}", ":value_0", "%s"]


def test_a_name_of_any_script_is_found_by_what_people_type(engine: sa.Engine, import_images: Import) -> None:
    import_images("names", *({"PatientName": name, "PatientID": str(number)} for number, name in enumerate(NAMES)))

    with work(engine, read_only=True) as dbsession:
        missed = []
        for number, (name, typed) in enumerate(NAMES.items()):
            for text in typed:
                found = search.find(dbsession, query.parse(f'PatientName:"{text}"'), columns=["PatientID", "PatientName"])
                if (str(number), name) not in [(row.values["PatientID"], row.values["PatientName"]) for row in found.rows]:
                    missed.append(text)
            words = name.split("=")[-1].split("^")[0]
            if search.count(dbsession, query.Words(words)) < 1:
                missed.append(f"words {words}")
            field = query.resolve("PatientName")
            if name not in dict(search.complete_values(dbsession, field, name[:2].lower(), 20)):
                missed.append(f"completion of {name[:2]}")
        for name, typed in OTHERS.items():
            for text in typed:
                found = search.find(dbsession, query.parse(f'PatientName:"{text}"'), columns=["PatientName"])
                if name in [row.values["PatientName"] for row in found.rows]:
                    missed.append(f"not {text}")
    assert missed == []


def test_what_was_counted_for_a_name_is_found_for_it(engine: sa.Engine, import_images: Import) -> None:
    names = ["Smith", "Smith^John", "Smith^John^Q", "John^Smith", "SMITH^", ""]
    import_images("names", *({"PatientName": name, "PatientID": str(number)} for number, name in enumerate(names)))

    with work(engine, read_only=True) as dbsession:
        answer = search.facet(dbsession, query.EVERYTHING, query.resolve("PatientName"))
        found = {value.text: search.count(dbsession, query.parse(value.query)) for value in answer.values}
    assert found == {"Smith": 2, "Smith^John": 1, "Smith^John^Q": 1, "John^Smith": 1, "SMITH^": 2, "": 1}


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_uid_alone_is_found_among_the_uids(engine: sa.Engine, import_images: Import, keyword: str) -> None:
    import_images("uids", *({keyword: f"1.2.3.4.{number}"} for number in (5, 5, 55) if number != 5 or keyword != "SOPInstanceUID"), {keyword: "1.2.3.4.5"})

    with work(engine, read_only=True) as dbsession:
        alone = search.count(dbsession, query.parse("1.2.3.4.5"))
        assert alone == search.count(dbsession, query.parse(f"{keyword}:1.2.3.4.5")) == (1 if keyword == "SOPInstanceUID" else 3)
        assert search.count(dbsession, query.parse("1.2.3.4")) == 0
        assert search.count(dbsession, query.parse("1.2.3.4.5 -PatientID:missing")) == alone


def test_the_sample_files_of_all_character_sets_are_found(engine: sa.Engine, import_images: Import) -> None:
    import_images("sets", {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люкceмбypг"}, {"SpecificCharacterSet": "ISO_IR 126", "PatientName": "Διονυσιος"},
                  {"SpecificCharacterSet": "GB18030", "PatientName": "Wang^XiaoDong=王^小东"}, {"SpecificCharacterSet": "ISO_IR 138", "PatientName": "שרון^דבורה"})  # fmt: skip

    with work(engine, read_only=True) as dbsession:
        found = {typed: search.count(dbsession, query.parse(f'PatientName:"{typed}"')) for typed in ("люк*", "διον*", "*小东", "שרון*")}
    assert set(found.values()) == {1}


@pytest.mark.parametrize("level", search.LEVELS)
def test_what_databases_take_for_a_pattern_is_a_text_like_any_other(engine: sa.Engine, import_images: Import, level: str) -> None:
    import_images("hostile", *({"ImageComments": text, "SeriesInstanceUID": f"1.2.{number}", "StudyInstanceUID": f"1.3.{number}"} for number, text in enumerate(HOSTILE)))

    with work(engine, read_only=True) as dbsession:
        wrong = []
        for text in HOSTILE:
            counted = search.count(dbsession, query.equals(query.resolve("ImageComments"), text), level)
            words = search.count(dbsession, query.Words(text), level)
            containing = sum(text.casefold() in other.casefold() for other in HOSTILE)
            if (counted, words) != (1, containing):
                wrong.append((text, counted, words, containing))
    assert wrong == []


def test_a_query_of_256_conditions_is_answered_and_one_more_is_refused(engine: sa.Engine, import_images: Import) -> None:
    import_images("many", {"PatientID": "7"}, {"PatientID": "300"})
    field = query.resolve("PatientID")
    terms = tuple(query.Term(field, query.Text(str(number))) for number in range(257))

    with work(engine, read_only=True) as dbsession:
        for level, expected in (("image", 1), ("series", 1), ("study", 1)):
            assert search.count(dbsession, query.Or(terms[:256]), level) == expected
        assert search.find(dbsession, query.Or(terms[:256]), columns=["PatientID"]).rows[0].values == {"PatientID": "7"}
        assert search.count(dbsession, query.Not(query.Or(terms[:256]))) == 1
        with pytest.raises(search.TooLarge, match="256"):
            search.count(dbsession, query.Or(terms))
