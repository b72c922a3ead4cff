"""Everything that can be written in a query, one row each: the table of docs/search.md, of the help in the page and of the tests."""

from __future__ import annotations

from typing import NamedTuple

from dicomweb.languages import N_


class Operator(NamedTuple):
    """One thing that can be written, by an example, and what it means."""

    example: str
    sentence: str


OPERATORS: tuple[Operator, ...] = (
    Operator("gadovist", N_("Some text of the header contains this, whatever the element; case, accents and width do not matter.")),
    Operator('"contrast agent"', N_("Some text contains this phrase.")),
    Operator("Modality:CT", N_("A value of the element is this, as a whole; of several values, any.")),
    Operator("Modality:=CT", N_("The same.")),
    Operator("PatientName:smi*", N_("`*` stands for any text, `?` for one character; `\\*` and `\\?` for themselves.")),
    Operator("PatientName:山田", N_("A component of the name is this, in one of its writings; so `yamada` finds `Yamada^Tarou=山田^太郎`.")),
    Operator("PatientName:smith^john", N_("The name, in one of its writings, is this; `smith^` is `Smith` and nothing else.")),
    Operator("1.2.840.113619.2.1", N_("A whole UID stands for itself: some UID of the header is this.")),
    Operator('SeriesDescription:"t1 mprage"', N_('A value with spaces, parentheses or `"` stands in quotes; a backslash takes a sign literally.')),
    Operator('SeriesDescription:""', N_("The element is there and has no value.")),
    Operator("SliceThickness:1.5", N_("The number is this, however the header writes it (`1.50`).")),
    Operator("SliceThickness:<=1.5", N_("The number is at most this.")),
    Operator("SliceThickness:<1.5", N_("The number is less than this.")),
    Operator("KVP:>=100", N_("The number is at least this.")),
    Operator("KVP:>100", N_("The number is more than this.")),
    Operator("SliceThickness:0.5..1.5", N_("The number lies between both, which belong to it.")),
    Operator("SliceThickness:0.5..", N_("The upper end is open.")),
    Operator("SliceThickness:..1.5", N_("The lower end is open.")),
    Operator("StudyDate:2020", N_("The date is in this year.")),
    Operator("StudyDate:2020-01", N_("The date is in this month.")),
    Operator("StudyDate:2020-01-31", N_("The date is this day; `20200131` is the same.")),
    Operator("StudyDate:2020-01..2020-06", N_("The date is in these months, the first day of the first to the last day of the last.")),
    Operator("StudyDate:>=2020", N_("The date is in this year or later; `>2020` is after the year.")),
    Operator("StudyDate:today", N_("The date is today; `yesterday` and `tomorrow` too.")),
    Operator("StudyDate:>=-30d", N_("The date is at most 30 days ago; `d` days, `w` weeks, `m` months, `y` years, and `+` is in the future.")),
    Operator("AcquisitionTime:09:00..12:00", N_("The time is in these minutes, from 09:00:00 to the end of 12:00; `0900` and `09` (the hour) too.")),
    Operator("AcquisitionDateTime:>=2020-01-31T09:30", N_("Date and time; an offset from UTC is not applied.")),
    Operator("PatientAge:<18Y", N_("The age is less than this; `D`, `W`, `M`, `Y`. A year has 365.25 days, a month 30.4375.")),
    Operator("00280010:512", N_("The element with this tag; `0028,0010` and `(0028,0010)` too.")),
    Operator("0019[GEMS_ACQU_01]02:736", N_("A private element: group, creator and the last two digits; the block does not matter.")),
    Operator("GEMS_ACQU_01.DetectorChannel:736", N_("A private element by creator and name, where the dictionary knows it; letters and digits are compared.")),
    Operator('"SIEMENS MED NM".ScalerIndex:exists', N_("A creator with spaces, dots or other signs stands in quotes.")),
    Operator("RequestAttributesSequence.ScheduledProcedureStepID:X", N_("An element in the items of a sequence; keywords and tags may be mixed, `/` is the same as the dot.")),
    Operator("**.CodeValue:T-A0100", N_("The element at any depth, in whatever sequence, or in none.")),
    Operator("KVP:exists", N_("The element is there, with or without a value.")),
    Operator("Manufacturer:missing", N_("The element is not there.")),
    Operator("Modality:(CT MR)", N_("A value is one of these; each may have wildcards, a comparison or a range. `OR` between them may be written.")),
    Operator("Modality:CT KVP:120", N_("Both conditions hold; `AND` may be written between them.")),
    Operator("Modality:CT AND KVP:120", N_("The same.")),
    Operator("Modality:CT OR KVP:120", N_("One of the conditions holds. `AND` binds tighter than `OR`.")),
    Operator("-Modality:CT", N_("The condition does not hold: no value is CT, or the element is not there.")),
    Operator("NOT Modality:CT", N_("The same.")),
    Operator("Modality:CT (KVP:100 OR KVP:120)", N_("Parentheses put conditions together.")),
    Operator("batch:12", N_("The image belongs to the batch with this number or name; names may have wildcards. `batch:3..9` is by number alone.")),
    Operator("status:DONE", N_("The status of the image's batch: `NEW`, `PROCESSING` or `DONE`.")),
    Operator("label:reviewed", N_("The image, its series, study or batch has this label; `exists` and `missing` too.")),
    Operator("added:>=-7d", N_("When the image was added to the application, in UTC; dates, times, comparisons and ranges.")),
    Operator("id:1..100", N_("The number that the application gave the image.")),
    Operator("*", N_("Everything.")),
)
