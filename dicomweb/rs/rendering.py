"""WADO-RS: pictures of frames, instances, series and studies (PS3.18 10.4.1.1.3 and 10.4.1.1.4), and slices through a volume (10.4.1.1.7).

An instance is shown by its first frame, a series or a study by an image from its middle; where the client takes multipart/related,
by all. A series that is one volume is cut along the axes of the patient: ``renderedmpr``, or ``rendered`` with ``orientation``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from pyramid.response import Response
from sqlalchemy.orm import Session

from dicomweb import index, volumes
from dicomweb.pixels import LARGEST_VIEWPORT, CannotRender, Cut, Frame, Look, Region, Renderer, Viewport, Window
from dicomweb.rs import frames, instances, multipart, uris
from dicomweb.rs.errors import Refused, nothing_here
from dicomweb.rs.negotiation import MULTIPART, Offer, choose
from dicomweb.rs.retrieving import ASK_AGAIN, FOR_EVER, cached, cannot, etag_of, frame_numbers, unchanged
from dicomweb.rs.streaming import Stream
from dicomweb.rs.transactions import Parameter, Transaction
from dicomweb.security import Permission
from dicomweb.storage import BytesMissing, Storage

JPEG, PNG = "image/jpeg", "image/png"
_KINDS = {JPEG: "jpeg", PNG: "png"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,6}", re.ASCII)
_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "linear_exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
THUMBNAIL = Viewport(200, 200)
# Changed when the same bytes are drawn in another way.
DRAWN = "1"
# Where a series or study begins with reports, so many groups of images are looked through for one to show.
_GROUPS_LOOKED_AT = 8
# (plane, seen from the other side) by the letter of PS3.18 8.3.5.3.4, and by name.
_ORIENTATIONS = {
    "axial": ("axial", False), "coronal": ("coronal", False), "sagittal": ("sagittal", False),
    "f": ("axial", False), "h": ("axial", True), "a": ("coronal", False), "p": ("coronal", True), "l": ("sagittal", False), "r": ("sagittal", True),
}  # fmt: skip
_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


def retrieve_rendered_instance(request: Any) -> Response:
    """Answer ``rendered`` of an instance or of some of its frames."""
    here = request.matchdict
    look = read_look(request.GET)
    numbers = frame_numbers(here["frames"]) if "frames" in here else [1]
    return _rendered(request, numbers, look)


def retrieve_thumbnail(request: Any) -> Response:
    """Answer ``thumbnail`` of an instance, or of one of its frames: small, of the frame in the middle."""
    here = request.matchdict
    look = read_look(request.GET)
    look = look if look.viewport else look._replace(viewport=THUMBNAIL)
    return _rendered(request, frame_numbers(here["frames"]) if "frames" in here else [], look)


def _rendered(request: Any, numbers: list[int], look: Look) -> Response:
    offers = [Offer(MULTIPART, {"type": media_type}) for media_type in (JPEG, PNG)]
    single = [Offer(JPEG), Offer(PNG)]
    offer = choose(request, [*single, *offers] if len(numbers) < 2 else offers)
    found = frames.find_instance(request)
    numbers = numbers or [max(1, (found.facts.frames + 1) // 2)]
    kind = _KINDS[offer.part_type]
    look = look._replace(kind=kind)
    etag = etag_of(found.sha256, "rendered", DRAWN, repr(look), str(offer), ",".join(map(str, numbers)))
    if etag in request.if_none_match:
        return unchanged(etag, FOR_EVER)
    require_image(found)
    if max(numbers) > found.facts.frames:
        raise Refused(404, f"This instance has {found.facts.frames:,} frames.")
    renderer: Renderer = request.registry["renderer"]
    try:
        first = renderer.render(found.frame(numbers[0]), look)
    except CannotRender as error:
        raise cannot(error) from None
    if offer.media_type != MULTIPART:
        return cached(Response(body=first, content_type=offer.media_type, charset=None), etag, FOR_EVER)
    boundary = multipart.boundary_of(etag)

    def parts() -> Iterator[multipart.Part]:
        for at, number in enumerate(numbers):
            yield multipart.Part(offer.part_type, (renderer.render(found.frame(number), look) if at else first,))

    response = Response(app_iter=multipart.written(parts(), boundary))
    response.headers["Content-Type"] = multipart.content_type(offer.part_type, boundary)
    return cached(response, etag, FOR_EVER)


def require_image(found: frames.Found) -> None:
    """Refuse what has no picture: reports, presentation states, structures, documents, waveforms."""
    if frames.is_video(found.facts.syntax):
        raise Refused(406, "This instance is a video, of which no picture can be made here.")
    if not frames.has_frames(found, found.facts):
        raise Refused(406, "This instance is no image, so there is no picture of it.")


def retrieve_rendered_several(request: Any) -> Response:
    """Answer ``rendered`` of a series or a study: an image from its middle, all as multipart/related, or a slice when one is asked for."""
    if "orientation" in request.GET:
        if "series" not in request.matchdict:
            raise Refused(400, "A slice is cut out of a series, not of a study.")
        return retrieve_rendered_mpr(request)
    look = read_look(request.GET)
    return _of_several(request, look)


def retrieve_thumbnail_several(request: Any) -> Response:
    """Answer ``thumbnail`` of a series or a study."""
    look = read_look(request.GET)
    return _of_several(request, look if look.viewport else look._replace(viewport=THUMBNAIL), alone=True)


def _of_several(request: Any, look: Look, *, alone: bool = False) -> Response:
    here = request.matchdict
    single = [Offer(JPEG), Offer(PNG)]
    offer = choose(request, single if alone else [*single, *(Offer(MULTIPART, {"type": media_type}) for media_type in (JPEG, PNG))])
    place = instances.locate(request.dbsession, here["study"], here.get("series"))
    if place is None:
        raise nothing_here()
    look = look._replace(kind=_KINDS[offer.part_type])
    etag = etag_of(place.fingerprint(), "rendered", DRAWN, repr(look), str(offer))
    if etag in request.if_none_match:
        return unchanged(etag, ASK_AGAIN)
    storage, renderer = request.registry["storage"], request.registry["renderer"]
    if offer.media_type == MULTIPART:
        boundary = multipart.boundary_of(etag)
        base = uris.service_url(request)
        try:
            made = Stream(request, lambda dbsession: multipart.written(_all_pictures(dbsession, place, look, offer.part_type, renderer, storage, base), boundary))
        except (CannotRender, BytesMissing) as error:
            raise frames.missing(error) if isinstance(error, BytesMissing) else cannot(error) from None
        response = Response(app_iter=made)
        response.headers["Content-Type"] = multipart.content_type(offer.part_type, boundary)
        return cached(response, etag, ASK_AGAIN)
    frame = _representative(request.dbsession, place, storage)
    if frame is None:
        raise Refused(406, "There is no image among these instances, so there is no picture of them.")
    try:
        body = renderer.render(frame, look)
    except CannotRender as error:
        raise cannot(error) from None
    return cached(Response(body=body, content_type=offer.media_type, charset=None), etag, ASK_AGAIN)


def _pictured(dbsession: Session, block: list[instances.Instance]) -> list[tuple[instances.Instance, frames.Facts]]:
    facts = frames.read_facts(dbsession, [one.header_key for one in block])
    known = [(one, facts.get(one.header_key, frames.Facts())) for one in block]
    return [(one, fact) for one, fact in known if frames.has_frames(one, fact) and not frames.is_video(fact.syntax)]


def _representative(dbsession: Session, place: instances.Place, storage: Storage) -> Frame | None:
    """Choose a frame from the middle of what is there."""
    groups = list(dict.fromkeys(group for group, _, _ in place.groups))
    outwards = sorted(range(len(groups)), key=lambda at: abs(at - (len(groups) - 1) / 2))[:_GROUPS_LOOKED_AT]
    for at in outwards:
        of_group = place._replace(groups=[row for row in place.groups if row[0] == groups[at]])
        pictured = [pair for block in instances.read(dbsession, of_group) for pair in _pictured(dbsession, block)]
        if pictured:
            one, fact = pictured[len(pictured) // 2]
            try:
                file = one.locate(storage)
            except BytesMissing as error:
                raise frames.missing(error) from None
            return Frame(file.path, file.offset, file.length, max(1, (fact.frames + 1) // 2))
    return None


def _all_pictures(
    dbsession: Session, place: instances.Place, look: Look, media_type: str, renderer: Renderer, storage: Storage, base: str
) -> Iterator[multipart.Part]:
    for block in instances.read(dbsession, place):
        for one, _ in _pictured(dbsession, block):
            file = one.locate(storage)
            picture = renderer.render(Frame(file.path, file.offset, file.length), look)
            yield multipart.Part(media_type, (picture,), uris.resource_url(base, one.study_uid, one.series_uid, one.sop_uid, "rendered"))


# Slices.


def retrieve_rendered_mpr(request: Any) -> Response:
    """Answer ``renderedmpr`` of a study, a series or an instance (PS3.18 B.33 and B.34): an orthogonal slice through its volume."""
    here, parameters = request.matchdict, request.GET
    look = read_look(parameters)
    plane, mirrored = _orientation(parameters)
    position = _position(parameters, plane)
    offer = choose(request, [Offer(JPEG), Offer(PNG)])
    look = look._replace(kind=_KINDS[offer.part_type])
    place = instances.locate(request.dbsession, here["study"], here.get("series"), here.get("instance"))
    if place is None:
        raise nothing_here()
    etag = etag_of(place.fingerprint(), "mpr", DRAWN, repr(look), plane, str(mirrored), str(position), str(offer))
    if etag in request.if_none_match:
        return unchanged(etag, ASK_AGAIN)
    cut = cut_of(request.dbsession, place, request.registry["storage"], plane, position, mirrored)
    try:
        body = request.registry["renderer"].cut(cut, look)
    except CannotRender as error:
        raise cannot(error) from None
    return cached(Response(body=body, content_type=offer.media_type, charset=None), etag, ASK_AGAIN)


def cut_of(
    dbsession: Session, place: instances.Place, storage: Storage, plane: str, position: float | None, mirrored: bool
) -> Cut:
    """Make the cut through the volume that a series is. Raises Refused (406) with the reason when it is none."""
    ranges: dict[int, Any] = {}
    slices: list[volumes.Slice] = []
    for block in instances.read(dbsession, place):
        try:
            ranges |= {one.header_key: one.locate(storage) for one in block}
        except BytesMissing as error:
            raise frames.missing(error) from None
        slices += read_slices(dbsession, [one.header_key for one in block])
    verdict = volumes.judge(slices)
    if len(verdict.volumes) != 1:
        reason = verdict.unfit[0].sentence if verdict.unfit and not verdict.volumes else "It holds several volumes."
        raise Refused(406, f"This series is not one volume. {reason}")
    volume = verdict.volumes[0]
    geometry = volume.geometry
    chosen = []
    for key in volume.keys:
        header_key, number = cast("tuple[int, int]", key)
        file = ranges[header_key]
        chosen.append(Frame(file.path, file.offset, file.length, number))
    right, down, deep = geometry.spacing
    axes = _times(geometry.right, right), _times(geometry.down, down), _times(geometry.normal, deep)
    return Cut(tuple(chosen), geometry.origin, axes, plane, position, mirrored)


def _times(direction: volumes.Vector, step: float) -> volumes.Vector:
    return direction[0] * step, direction[1] * step, direction[2] * step


def read_slices(dbsession: Session, header_keys: list[int]) -> list[volumes.Slice]:
    """Read where images lie in the patient from the header index; the key of a slice is (header key, number of the frame)."""
    slices = []
    for group in index.read_elements(dbsession, header_keys, volumes.TAGS):
        for key, elements in group.by_image():
            slices += volumes.slices_of(key, elements)
    return slices


def _orientation(parameters: Mapping[str, str]) -> tuple[str, bool]:
    wanted = parameters.get("orientation", "f").lower()
    if wanted not in _ORIENTATIONS:
        raise Refused(400, "orientation is axial, coronal or sagittal, or one of the letters a, p, l, r, h, f.")
    return _ORIENTATIONS[wanted]


def _position(parameters: Mapping[str, str], plane: str) -> float | None:
    for refused in ("viewpointposition", "viewpointup", "swivelrange", "volumetriccurvepoint", "animationstepsize", "animationrate", "renderedvolumetricmetadata", "mprslab", "volumeinputreference", "match"):
        if refused in parameters:
            raise Refused(400, f"{refused} is not done here; slices lie along the axes of the patient, are one voxel thick and of all images.")
    if "viewpointlookat" in parameters:
        point = _numbers("viewpointlookat", parameters["viewpointlookat"], (3,))
        return point[_AXES[plane]]
    return _numbers("position", parameters["position"], (1,))[0] if "position" in parameters else None


# Parameters.


def read_look(parameters: Mapping[str, str]) -> Look:
    """Read how a picture is to look (PS3.18 8.3.5). Raises Refused."""
    if "annotation" in parameters:
        raise Refused(400, "annotation is not done here: no text is burned into pictures.")
    if parameters.get("iccprofile", "no").lower() not in ("no", "srgb"):
        raise Refused(400, "iccprofile is not done here: pictures have no profile.")
    window = _window(parameters["window"]) if "window" in parameters else None
    viewport = _viewport(parameters["viewport"]) if "viewport" in parameters else None
    quality = _whole("quality", parameters["quality"], 100) if "quality" in parameters else 90
    return Look("jpeg", window, viewport, quality)


def _window(text: str) -> Window:
    parts = text.split(",")
    function = _FUNCTIONS.get(parts.pop().strip().lower(), "") if len(parts) == 3 else "LINEAR"
    if not function:
        raise Refused(400, "The function of a window is linear, linear-exact or sigmoid.")
    center, width = _numbers("window", ",".join(parts), (2,))
    return make_window(center, width, function)


def make_window(center: float, width: float, function: str = "LINEAR") -> Window:
    """Make a window. Raises Refused when its width makes no sense (PS3.3 C.11.2.1.2)."""
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise Refused(400, "The width of a window is at least 1, and more than 0 with the other functions.")
    return Window(center, width, function)


def _viewport(text: str) -> Viewport:
    parts = [part.strip() for part in text.split(",")]
    width, height = (_whole("viewport", part, LARGEST_VIEWPORT) for part in (*parts[:2], "", "")[:2])
    if len(parts) == 2:
        return Viewport(width, height)
    if len(parts) > 6:
        raise Refused(400, "viewport is width and height, and perhaps x, y, width and height of a region.")
    # What is left out is the whole of it.
    region = [_numbers("viewport", part, (1,))[0] if part else 0.0 for part in (*parts[2:], "", "", "", "")[:4]]
    return Viewport(width, height, Region(*region))


def _numbers(name: str, text: str, counts: tuple[int, ...]) -> list[float]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in counts or not all(_NUMBER.fullmatch(part) for part in parts):
        raise Refused(400, f"{name} takes {counts[0]} number{'s' if counts[0] > 1 else ''} here, separated by commas.")
    numbers = [float(part) for part in parts]
    if not all(math.isfinite(number) and abs(number) <= 1e12 for number in numbers):
        raise Refused(400, f"A number of {name} is too large.")
    return numbers


def _whole(name: str, text: str, most: int) -> int:
    number = int(text) if _WHOLE.fullmatch(text) else 0
    if not 1 <= number <= most:
        raise Refused(400, f"{name} takes whole numbers from 1 to {most:,}.")
    return number


_STUDY, _SERIES, _INSTANCE = "/studies/{study}", "/studies/{study}/series/{series}", "/studies/{study}/series/{series}/instances/{instance}"
_LOOK = (
    Parameter("window", "Centre, width and perhaps function (linear, linear-exact, sigmoid) of the window."),
    Parameter("viewport", "Width and height of the picture, and perhaps x, y, width and height of a region of the image."),
    Parameter("quality", "Quality of a JPEG, 1 to 100."),
    Parameter("annotation", "Refused: no text is burned into pictures."),
)
_CUT = (
    Parameter("orientation", "axial, coronal, sagittal, or from where it is seen: a, p, l, r, h, f."),
    Parameter("position", "Where the slice lies on the axis it is perpendicular to, in mm."),
    Parameter("viewpointlookat", "A point of the slice, x, y and z in mm."),
)
_STATUSES = (304, 400, 404, 406, 410, 413)


def _transaction(name: str, path: str, view: Any, sentence: str, parameters: tuple[Parameter, ...] = _LOOK) -> Transaction:
    return Transaction(name, "GET", path, view, Permission.IMAGE_READ, sentence, (JPEG, PNG, MULTIPART), parameters, statuses=_STATUSES)


TRANSACTIONS = (
    _transaction("retrieve_rendered_study", _STUDY + "/rendered", retrieve_rendered_several, "Retrieve a picture from the middle of a study, or all."),
    _transaction("retrieve_rendered_series", _SERIES + "/rendered", retrieve_rendered_several, "Retrieve a picture from the middle of a series, all, or a slice.", (*_LOOK, *_CUT)),
    _transaction("retrieve_rendered_mpr_of_study", _STUDY + "/renderedmpr", retrieve_rendered_mpr, "Retrieve an orthogonal slice through the one volume of a study.", (*_LOOK, *_CUT)),
    _transaction("retrieve_rendered_mpr_of_instance", _INSTANCE + "/renderedmpr", retrieve_rendered_mpr, "Retrieve an orthogonal slice through the volume of frames.", (*_LOOK, *_CUT)),
    _transaction("retrieve_rendered_mpr", _SERIES + "/renderedmpr", retrieve_rendered_mpr, "Retrieve an orthogonal slice through the volume of a series.", (*_LOOK, *_CUT)),
    _transaction("retrieve_rendered_instance", _INSTANCE + "/rendered", retrieve_rendered_instance, "Retrieve a picture of an instance."),
    _transaction("retrieve_rendered_frames", _INSTANCE + "/frames/{frames}/rendered", retrieve_rendered_instance, "Retrieve pictures of frames."),
    _transaction("retrieve_study_thumbnail", _STUDY + "/thumbnail", retrieve_thumbnail_several, "Retrieve a small picture of a study."),
    _transaction("retrieve_series_thumbnail", _SERIES + "/thumbnail", retrieve_thumbnail_several, "Retrieve a small picture of a series."),
    _transaction("retrieve_instance_thumbnail", _INSTANCE + "/thumbnail", retrieve_thumbnail, "Retrieve a small picture of an instance."),
    _transaction("retrieve_frames_thumbnail", _INSTANCE + "/frames/{frames}/thumbnail", retrieve_thumbnail, "Retrieve a small picture of a frame."),
)  # fmt: skip
