"""``/api/search`` and its neighbours: the answers, their pages, exports, mistakes, saved searches and labels."""

from __future__ import annotations

import csv
import io
import zipfile
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from dicomweb.imports import Importer
from dicomweb.settings import Settings
from tests import dicom_files
from tests.functional import api_data
from tests.functional.api_data import CheckedApp


def ask(api: CheckedApp, query: str = "", path: str = "/api/search", **parameters: Any) -> Any:
    given = {"q": query, **parameters}
    return api.get(f"{path}?{urlencode({name: value for name, value in given.items() if value != ''})}").json


def refusal(api: CheckedApp, path: str, **parameters: Any) -> dict[str, Any]:
    answer = api.get(f"{path}?{urlencode(parameters)}", status=400).json
    [problem] = answer["errors"]
    return problem


class TestTheAnswer:
    def test_it_counts_and_says_what_was_understood(self, api: CheckedApp, imported: int) -> None:
        found = ask(api, "modality:mr")
        assert (found["count"], found["query"], found["sentence"]) == (2, "Modality:mr", "Modality is mr")
        assert [row["values"]["Modality"] for row in found["results"]] == ["MR", "MR"]
        assert {row["batch"] for row in found["results"]} == {imported}

    @pytest.mark.parametrize(("level", "count"), [("image", 7), ("series", 4), ("study", 3)])
    def test_there_are_three_levels(self, api: CheckedApp, imported: int, level: str, count: int) -> None:
        found = ask(api, level=level)
        assert (found["count"], len(found["results"]), found["level"]) == (count, count, level)
        assert len({row["url"] for row in found["results"]}) == count
        for row in found["results"]:
            api.get(row["url"], status=200)
            api.get(row["image_url"], status=200)
            api.get(row["batch_url"], status=200)

    def test_columns_are_chosen_in_any_spelling(self, api: CheckedApp, imported: int) -> None:
        found = ask(api, "Modality:MR", columns="patientid, 00080060,images")
        assert [column["name"] for column in found["columns"]] == ["PatientID", "Modality", "images"]
        assert [column["path"] for column in found["columns"]] == ["00100020", "00080060", None]
        assert set(found["results"][0]["values"]) == {"PatientID", "Modality", "images"}

    @pytest.mark.parametrize("sort", ["", "InstanceNumber", "-PatientID,InstanceNumber"])
    @pytest.mark.parametrize("level", ["image", "series"])
    def test_pages_hold_each_once_and_lead_back(self, api: CheckedApp, imported: int, level: str, sort: str) -> None:
        whole = [row["id"] for row in ask(api, level=level, sort=sort, size=100)["results"]]
        page = ask(api, level=level, sort=sort, size=2)
        pages = [page]
        while page["next"]:
            page = api.get(page["next"]).json
            pages.append(page)
        assert [row["id"] for one in pages for row in one["results"]] == whole
        for before in reversed(pages[:-1]):
            page = api.get(page["previous"]).json
            assert page["results"] == before["results"]
        assert page["previous"] is None

    def test_a_size_of_nought_only_counts(self, api: CheckedApp, imported: int) -> None:
        found = ask(api, "Modality:MR", size=0)
        assert (found["count"], found["results"], found["next"]) == (2, [], None)

    def test_a_hostile_value_is_found_by_the_query_of_its_facet(self, api: CheckedApp, imported: int) -> None:
        [facet] = ask(api, path="/api/search/facets", fields="PatientName")["facets"]
        [value] = [value for value in facet["values"] if value["text"] == api_data.HOSTILE]
        found = ask(api, value["query"])
        assert (found["count"], found["results"][0]["values"]["PatientName"]) == (value["count"], api_data.HOSTILE)

    def test_an_empty_database_has_an_answer(self, api: CheckedApp) -> None:
        found = ask(api, "Modality:CT")
        assert (found["count"], found["results"], found["next"], found["previous"]) == (0, [], None, None)
        assert ask(api, path="/api/search/varies") | {"took_ms": 0} == {"count": 0, "constant": [], "varying": [], "took_ms": 0}


class TestMistakes:
    def test_a_misspelt_keyword_says_where_and_what_was_meant(self, api: CheckedApp) -> None:
        problem = refusal(api, "/api/search", q="PatientID:1 SliceThicknes:1")
        assert (problem["location"], problem["name"]) == ("querystring", "q")
        assert (problem["position"], problem["length"], problem["suggestion"]) == (12, 13, "SliceThickness")
        assert problem["expected"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [("columns", "PatientID,Modalty"), ("sort", "-Modalty"), ("after", "nonsense"), ("level", "patient"), ("size", "-1")],
    )
    def test_each_parameter_is_named(self, api: CheckedApp, imported: int, name: str, text: str) -> None:
        assert refusal(api, "/api/search", **{name: text})["name"] == name

    @pytest.mark.parametrize(
        "path", ["/api/search/facets?fields=Modality&", "/api/search/varies?", "/api/search/export?", "/api/search/images.zip?"]
    )
    def test_every_question_refuses_a_broken_query(self, api: CheckedApp, imported: int, path: str) -> None:
        answer = api.get(f"{path}q=Modality%3A(CT", status=400).json
        assert answer["errors"][0]["name"] == "q"
        assert answer["errors"][0]["position"] >= 0

    def test_too_many_conditions_are_an_answer_and_no_failure(self, api: CheckedApp, imported: int) -> None:
        assert refusal(api, "/api/search", q=" OR ".join(f"a{number}" for number in range(1500)))["name"] == "q"

    def test_a_cursor_of_another_search_is_refused(self, api: CheckedApp, imported: int) -> None:
        following = ask(api, size=2)["next"]
        answer = api.get(f"{following}&level=series", status=400).json
        assert answer["errors"][0]["name"] == "after"


class TestFacets:
    def test_they_count_values_and_what_is_missing(self, api: CheckedApp, imported: int) -> None:
        found = ask(api, path="/api/search/facets", fields="Modality,ImageComments")
        modality, comments = found["facets"]
        assert {value["text"]: value["count"] for value in modality["values"]} == {"CT": 5, "MR": 2}
        assert (modality["total"], modality["missing"]) == (7, 0)
        assert comments["missing"] == 7 - sum(value["count"] for value in comments["values"])

    def test_each_value_has_the_query_that_finds_so_many(self, api: CheckedApp, imported: int) -> None:
        for level in ("image", "series", "study"):
            [facet] = ask(api, "PatientID:*", "/api/search/facets", fields="Modality", level=level)["facets"]
            for value in facet["values"]:
                assert ask(api, value["query"], level=level)["count"] == value["count"]

    def test_many_numbers_are_a_histogram_that_counts_each_image_once(
        self, api: CheckedApp, importer: Importer, settings: Settings
    ) -> None:
        folder = settings["watch.folders"][0] / "many"
        dicom_files.write_series(folder, images=30)
        api_data.import_folder(importer, folder)
        [facet] = ask(api, path="/api/search/facets", fields="InstanceNumber", limit=5)["facets"]
        assert facet["histogram"]
        assert sum(value["count"] for value in facet["values"]) == 30
        for value in facet["values"]:
            assert ask(api, value["query"])["count"] == value["count"]

    def test_fields_must_be_elements(self, api: CheckedApp) -> None:
        assert refusal(api, "/api/search/facets", fields="batch")["name"] == "fields"
        many = ",".join(f"0010{number:04X}" for number in range(0x10, 0x40))
        assert refusal(api, "/api/search/facets", fields=many)["name"] == "fields"


class TestComparing:
    def test_what_varies_and_what_does_not(self, api: CheckedApp, imported: int) -> None:
        found = ask(api, "Modality:MR", "/api/search/varies")
        constant = {one["keyword"]: one for one in found["constant"]}
        varying = {one["keyword"]: one for one in found["varying"]}
        assert found["count"] == 2
        assert constant["Modality"]["examples"] == ["MR"]
        assert varying["InstanceNumber"]["distinct_count"] == 2

    def test_the_difference_of_two_images(self, api: CheckedApp, imported: int) -> None:
        first, second = (row["id"] for row in ask(api, "Modality:MR")["results"])
        found = api.get(f"/api/images/{first}/diff/{second}").json
        numbers = [row for row in found["elements"] if row["keyword"] == "InstanceNumber"]
        assert [(row["path"], row["one"], row["other"]) for row in numbers] == [("00200013", "1", "2")]
        assert api.get(f"/api/images/{first}/diff/{first}").json["elements"] == []
        api.get(f"/api/images/{first}/diff/999999", status=404)
        api.get(f"/api/images/{first}/diff/abc", status=404)


class TestExport:
    @pytest.mark.parametrize("level", ["image", "series", "study"])
    def test_every_format_has_every_row(self, api: CheckedApp, imported: int, level: str) -> None:
        columns = "id,PatientID,InstanceNumber"
        rows = [row["values"] for row in ask(api, level=level, columns=columns, size=100)["results"]]
        expected = [[row["id"], row.get("PatientID", ""), row.get("InstanceNumber", "")] for row in rows]
        parameters = urlencode({"level": level, "columns": columns})
        for kind, delimiter in (("csv", ","), ("tsv", "\t")):
            answer = api.get(f"/api/search/export?{parameters}&format={kind}")
            assert list(csv.reader(io.StringIO(answer.text), delimiter=delimiter)) == [columns.split(","), *expected]
            assert answer.headers["X-Total-Count"] == str(len(rows))
            assert answer.headers["Content-Disposition"] == f'attachment; filename="search.{kind}"'
        lines = api.get(f"/api/search/export?{parameters}&format=ndjson").body.splitlines()
        assert [[value or "" for value in orjson.loads(line).values()] for line in lines] == expected

    def test_parquet_holds_the_same(self, api: CheckedApp, imported: int) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        answer = api.get("/api/search/export?format=parquet&columns=PatientID,Modality&q=Modality:MR")
        table = parquet.read_table(io.BytesIO(answer.body))
        assert table.column_names == ["PatientID", "Modality"]
        assert table.column("Modality").to_pylist() == ["MR", "MR"]

    def test_no_cell_of_a_csv_is_a_formula(self, api: CheckedApp, importer: Importer, settings: Settings) -> None:
        folder = settings["watch.folders"][0] / "formula"
        folder.mkdir()
        (folder / "a.dcm").write_bytes(dicom_files.image_bytes("a", PatientID="=1+1", SeriesDescription="@SUM(A1)"))
        api_data.import_folder(importer, folder)
        [_, row] = csv.reader(io.StringIO(api.get("/api/search/export?columns=PatientID,SeriesDescription").text))
        assert row == ["'=1+1", "'@SUM(A1)"]

    def test_the_archive_has_the_bytes_of_every_image(self, api: CheckedApp, imported: int, settings: Settings) -> None:
        answer = api.get("/api/search/images.zip?q=Modality:MR")
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            files = {archive.read(name) for name in archive.namelist() if name.endswith(".dcm")}
            manifest = archive.read("manifest.tsv").decode().splitlines()
        folder = settings["watch.folders"][0] / "samples" / "two"
        assert files == {path.read_bytes() for path in folder.iterdir()}
        assert len(manifest) == 3
        assert answer.headers["X-Total-Count"] == "2"

    def test_a_reader_who_goes_away_leaves_no_connection_behind(self, api: CheckedApp, imported: int) -> None:
        pool = api.app.registry["engine"].pool
        request = api.RequestClass.blank("/api/search/export", environ=api._make_environ())
        body: Any = request.call_application(api.app)[2]
        pieces = iter(body)
        # The head of the table, and the first rows.
        next(pieces)
        next(pieces)
        assert pool.checkedout() == 1
        body.close()
        assert pool.checkedout() == 0

    def test_no_more_are_sent_at_once_than_leave_threads_for_others(self, api: CheckedApp, imported: int, settings: Settings) -> None:
        bodies = []
        for _ in range(settings["web.threads"]):
            request = api.RequestClass.blank("/api/search/export", environ=api._make_environ())
            status, _headers, body = request.call_application(api.app)
            if status != "200 OK":
                break
            bodies.append(body)
        assert status == "429 Too Many Requests"
        assert 0 < len(bodies) < settings["web.threads"]
        for body in bodies:
            body.close()
        api.get("/api/search/export", status=200)


class TestCompletion:
    def options(self, api: CheckedApp, text: str, **parameters: Any) -> list[str]:
        found = api.get(f"/api/complete?{urlencode({'text': text, **parameters})}").json
        return [text[: found["start"]] + option["text"] + text[found["end"] :] for option in found["options"]]

    def test_keywords_are_completed(self, api: CheckedApp) -> None:
        assert self.options(api, "Modality:CT slicethi")[0] == "Modality:CT SliceThickness:"

    def test_values_are_those_that_there_are(self, api: CheckedApp, imported: int) -> None:
        assert self.options(api, "Modality:")[:2] == ["Modality:CT", "Modality:MR"]
        [hostile] = self.options(api, 'SeriesDescription:"</scr')
        assert ask(api, hostile)["count"] == 1

    def test_an_empty_value_can_be_seen(self, api: CheckedApp, settings: Settings, importer: Importer) -> None:
        folder = settings["watch.folders"][0] / "empty"
        dicom_files.write_series(folder, images=2, StudyDescription="")
        api_data.import_folder(importer, folder)
        option = api.get("/api/complete?text=StudyDescription:").json["options"][0]
        assert (option["label"], option["help"]) == ("(empty)", "2 images")
        assert ask(api, f"StudyDescription:{option['text']}")["count"] == 2

    def test_batches_and_labels_are_completed_too(self, api: CheckedApp, imported: int) -> None:
        api.post_json("/api/labels", {"label": "my knees", "kind": "batch", "ids": [imported]})
        assert self.options(api, "batch:sam") == ["batch:samples"]
        assert self.options(api, "label:my") == ['label:"my knees"']

    def test_what_is_completed_is_where_the_cursor_is(self, api: CheckedApp) -> None:
        assert self.options(api, "Modal KVP:120", cursor=5)[0] == "Modality: KVP:120"

    def test_lists_of_columns_are_completed_too(self, api: CheckedApp) -> None:
        assert self.options(api, "PatientID, SliceThi", only="fields")[0] == "PatientID, SliceThickness"
        assert self.options(api, "bat", only="fields")[0] == "batch"

    def test_nothing_typed_has_suggestions(self, api: CheckedApp) -> None:
        assert api.get("/api/complete").json["options"]


class TestSavedSearches:
    def test_one_is_saved_counted_replaced_and_forgotten(self, api: CheckedApp, imported: int) -> None:
        made = api.post_json("/api/searches", {"name": " MR ", "query": "Modality:MR", "level": "series"}, status=201).json
        assert (made["name"], made["count"], made["level"]) == ("MR", 1, "series")
        assert api.get(made["search_url"]).json["count"] == 1
        api.post_json("/api/searches", {"name": "MR", "query": "Modality:MR", "columns": ["patientid"]}, status=201)
        [found] = api.get("/api/searches").json["results"]
        assert (found["id"], found["count"], found["columns"]) == (made["id"], 2, ["PatientID"])
        api.delete(made["url"], status=204)
        api.get(made["url"], status=404)

    @pytest.mark.parametrize(
        ("body", "name"),
        [
            ({"name": "x", "query": "Modalty:CT"}, "query"),
            ({"name": "x", "columns": ["Modalty"]}, "columns"),
            ({"name": ""}, "name"),
            ({"name": "a\x07b"}, "query"),
            ({"name": 5}, "name"),
            ({"name": "x", "columns": "PatientID"}, "columns"),
            ({"name": "x", "nope": 1}, "nope"),
            ({}, "name"),
        ],
    )
    def test_what_is_wrong_is_named(self, api: CheckedApp, body: dict[str, Any], name: str) -> None:
        answer = api.post_json("/api/searches", body, status=400).json
        assert [(problem["location"], problem["name"]) for problem in answer["errors"]] == [("body", name)]

    @pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"name":"\xff"}'])
    def test_a_body_that_is_no_json_object_is_refused(self, api: CheckedApp, body: bytes) -> None:
        answer = api.send("POST", "/api/searches", body=body, headers={"Content-Type": "application/json"})
        assert answer.status_int == 400


class TestLabels:
    def test_a_label_is_put_on_things_found_and_taken_off(self, api: CheckedApp, imported: int) -> None:
        done = api.post_json("/api/labels", {"label": "Knees", "kind": "batch", "ids": [imported, 999999]}).json
        assert done == {"label": "Knees", "changed": 1}
        assert ask(api, "label:knees")["count"] == 7
        [label] = api.get("/api/labels").json["results"]
        assert (label["name"], label["batches_count"], label["images_count"]) == ("Knees", 1, 0)
        assert api.post_json("/api/labels/remove", {"label": "Knees", "kind": "batch", "ids": [imported]}).json["changed"] == 1
        assert ask(api, "label:knees")["count"] == 0

    def test_a_label_is_put_on_a_whole_result(self, api: CheckedApp, imported: int) -> None:
        body = {"label": "thin", "query": "Modality:MR", "level": "image"}
        assert api.post_json("/api/labels", body).json["changed"] == 2
        assert api.post_json("/api/labels", body).json["changed"] == 0
        assert ask(api, "label:thin")["results"][0]["labels"] == ["thin"]
        assert api.post_json("/api/labels/remove", {"label": "thin", "query": "*"}, status=200).json["changed"] == 2

    def test_a_label_is_forgotten_with_all_its_places(self, api: CheckedApp, imported: int) -> None:
        api.post_json("/api/labels", {"label": "x", "query": "Modality:MR", "level": "series"})
        [label] = api.get("/api/labels").json["results"]
        assert api.get(label["url"]).json == label
        api.delete(label["url"], status=204)
        assert (ask(api, "label:x")["count"], api.get("/api/labels").json["results"]) == (0, [])

    @pytest.mark.parametrize(
        "body",
        [
            {"label": "x"},
            {"label": "x", "query": ""},
            {"label": "x", "kind": "image"},
            {"label": "x", "ids": [1]},
            {"label": "x", "kind": "image", "ids": [1], "query": "a"},
            {"label": "x", "kind": "patient", "ids": [1]},
            {"label": "x", "kind": "image", "ids": []},
            {"label": "x", "kind": "image", "ids": ["1"]},
            {"label": "x", "kind": "image", "ids": [True]},
            {"label": "x", "kind": "image", "ids": [10**30]},
            {"label": "x", "query": "Modality:(CT"},
            {"label": "-x", "kind": "image", "ids": [1]},
            {"kind": "image", "ids": [1]},
        ],
    )
    def test_what_cannot_be_labelled_is_refused(self, api: CheckedApp, body: dict[str, Any]) -> None:
        answer = api.post_json("/api/labels", body, status=400).json
        assert {problem["location"] for problem in answer["errors"]} == {"body"}
        assert api.get("/api/labels").json["results"] == []
