"""What a client takes is found in all the ways in which clients write it."""

import pytest
from pyramid.request import Request

from dicomweb.rs.errors import NotAcceptable
from dicomweb.rs.negotiation import MediaRange, Offer, accepted, choose, parse_media_type

JSON = Offer("application/dicom+json")
PLAIN = Offer("application/json")
XML = Offer("multipart/related", {"type": "application/dicom+xml"})
SEARCH = (JSON, PLAIN, XML)
LITTLE = Offer("multipart/related", {"type": "application/octet-stream", "transfer-syntax": "1.2.840.10008.1.2.1"})
JPEG = Offer("multipart/related", {"type": "image/jpeg", "transfer-syntax": "1.2.840.10008.1.2.4.50"})
FRAMES = (LITTLE, JPEG)


def request(accept: str | None = None, query: str = "") -> Request:
    made = Request.blank(f"/dicom-web/studies{query}")
    if accept is not None:
        made.headers["Accept"] = accept
    return made


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/dicom+json", JSON),
        ("Application/DICOM+JSON; charset=utf-8", JSON),
        ("application/json", PLAIN),
        ("application/json, text/plain, */*", JSON),
        ("application/json, */*;q=0.1", PLAIN),
        ('multipart/related; type="application/dicom+xml"', XML),
        ("multipart/related; type=application/dicom+xml", XML),
        ('multipart/related;type="application/dicom+xml";boundary=x, application/dicom+json;q=0.9', XML),
        ("multipart/related", XML),
        ("application/dicom+json;q=0, */*", PLAIN),
        ("application/dicom+json;q=0.2, application/json;q=0.3", PLAIN),
        ("nonsense, application/json", PLAIN),
        ("application/json; q=x, application/dicom+json", JSON),
    ],
)
def test_the_header_decides(accept: str | None, expected: Offer) -> None:
    assert choose(request(accept), SEARCH) is expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ('multipart/related; type="application/octet-stream"; transfer-syntax="*"', LITTLE),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", LITTLE),
        ("multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1", LITTLE),
        ("multipart/related; type=image/jpeg", JPEG),
        ("multipart/related; type=image/*", JPEG),
        ('multipart/related; type="*/*"', LITTLE),
        ("multipart/related; type=image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50", JPEG),
        ("multipart/related; type=image/jpeg, multipart/related; type=application/octet-stream; q=0.5", JPEG),
    ],
)
def test_type_and_transfer_syntax_of_the_parts_are_compared(accept: str, expected: Offer) -> None:
    assert choose(request(accept), FRAMES) is expected


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "nonsense",
        "/",
        "*/*;q=0",
        "application/dicom+xml",
        'multipart/related; type="application/dicom"',
        ",,;;",
        "application/dicom+json;q=2",
    ],
)
def test_what_cannot_be_given_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable) as refused:
        choose(request(accept), SEARCH)
    assert refused.value.status == 406
    assert "application/dicom+json" in refused.value.message


def test_a_transfer_syntax_that_is_not_offered_is_not_acceptable() -> None:
    with pytest.raises(NotAcceptable):
        choose(request("multipart/related; type=image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.70"), FRAMES)


@pytest.mark.parametrize(
    "query",
    [
        "?accept=application/json",
        "?accept=application%2Fjson",
        "?accept=text/html&accept=application/json",
        "?accept=text/html,application/json",
    ],
)
def test_the_query_parameter_stands_for_the_header(query: str) -> None:
    assert choose(request("application/dicom+json", query), SEARCH) is PLAIN


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?accept=application/dicom+json", JSON),
        ("?accept=application/dicom%2Bjson", JSON),
        ("?accept=multipart/related;type=application/dicom+xml", XML),
        ('?accept=multipart/related;%20type="application/dicom%2Bxml"', XML),
    ],
)
def test_a_plus_sign_that_was_not_encoded_is_understood(query: str, expected: Offer) -> None:
    assert choose(request("application/json", query), SEARCH) is expected


def test_a_range_keeps_its_parameters() -> None:
    ranges = accepted(request('image/jpeg;q=0.5, multipart/related; type="a/b;c,d"; x="q\\"uote"'))
    assert ranges == [
        MediaRange("image/jpeg", {}, 0.5),
        MediaRange("multipart/related", {"type": "a/b;c,d", "x": 'q"uote'}, 1.0),
    ]


def test_many_ranges_are_bounded() -> None:
    assert len(accepted(request("a/b," * 10_000))) == 100


def test_a_media_type_is_read_with_its_parameters() -> None:
    assert parse_media_type('Multipart/Related; Boundary="a b"; boundary=c; type') == ("multipart/related", {"boundary": "a b"})
