"""The tree of places: ``/batches/<id>/images/<id>`` and its neighbours. It looks things up, and holds no rules.

A resource wraps a row (``context.batch``, ``context.image``); a name that finds nothing is a KeyError, which Pyramid answers
with 404. An id is written in one way only, so that each thing has one address. **Pages and the API stand on the same tree**:
a Cornice service says ``factory=Root, traverse="/batches/{id}"`` and has the same contexts and the same access lists.
"""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa
from pyramid.authorization import DENY_ALL, Allow, Authenticated
from sqlalchemy.orm import joinedload

from dicomweb.exports import Exports
from dicomweb.imports import OpenUpload, UploadGone, announced
from dicomweb.jobs import Doorbell
from dicomweb.models import Arrival, Batch, Image, Job, Label, Patient, SavedSearch, Series, Study, Token
from dicomweb.pixels import Renderer
from dicomweb.security import Permission
from dicomweb.storage import Storage

# Eighteen digits always fit into the 64 bits of an id.
_ID = re.compile(r"[1-9][0-9]{0,17}")
_KEY = re.compile(r"[0-9a-f]{32}")


class Resource:
    """A place in the tree: ``__name__`` and ``__parent__`` make its address."""

    def __init__(self, request: Any, name: str, parent: Resource | None) -> None:
        self.request = request
        self.__name__ = name
        self.__parent__ = parent


class Root(Resource):
    """The top of the tree. Its access list is inherited by every place below."""

    __acl__ = ((Allow, Authenticated, tuple(Permission)), DENY_ALL)

    def __init__(self, request: Any) -> None:
        super().__init__(request, "", None)

    def __getitem__(self, name: str) -> Resource:
        return _CONTAINERS[name](self.request, name, self)


class SettingsResource(Resource):
    """``/settings``"""


class StatisticsResource(Resource):
    """``/statistics``"""


class SearchResource(Resource):
    """``/search``"""


class ConsoleResource(Resource):
    """``/console``; it is not there when the setting switches it off."""

    def __init__(self, request: Any, name: str, parent: Resource | None) -> None:
        super().__init__(request, name, parent)
        if not request.registry.settings["dicomweb"]["console.enabled"]:
            raise KeyError(name)


class Container(Resource):
    """The things of one kind; ``container["5"]`` is the one with the id 5."""

    def __getitem__(self, name: str) -> Resource:
        if not _ID.fullmatch(name):
            raise KeyError(name)
        return self.find(int(name), name)

    def find(self, key: int, name: str) -> Resource:
        """Give the resource of one row. Raises KeyError."""
        raise NotImplementedError


class BatchesContainer(Container):
    """``/batches``"""

    def find(self, key: int, name: str) -> BatchResource:
        """Find a batch."""
        return BatchResource(self.request, name, self, _found(self.request.dbsession.get(Batch, key), name))


class BatchResource(Resource):
    """``/batches/<id>``"""

    def __init__(self, request: Any, name: str, parent: Resource, batch: Batch) -> None:
        super().__init__(request, name, parent)
        self.batch = batch

    def __getitem__(self, name: str) -> ImagesContainer:
        if name != "images":
            raise KeyError(name)
        return ImagesContainer(self.request, name, self)


class ImagesContainer(Container):
    """``/batches/<id>/images``: the images of one batch; ``/images``: those of all batches."""

    def find(self, key: int, name: str) -> ImageResource:
        """Find an image with its batch, series and study; one of another batch is not here."""
        wanted = sa.select(Image).where(Image.id == key)
        if isinstance(self.__parent__, BatchResource):
            wanted = wanted.where(Image.batch_id == self.__parent__.batch.id)
        wanted = wanted.options(joinedload(Image.batch), joinedload(Image.series).joinedload(Series.study).joinedload(Study.patient))
        return ImageResource(self.request, name, self, _found(self.request.dbsession.scalar(wanted), name))


class ImageResource(Resource):
    """``/batches/<id>/images/<id>`` and ``/images/<id>``"""

    def __init__(self, request: Any, name: str, parent: Resource, image: Image) -> None:
        super().__init__(request, name, parent)
        self.image = image
        self.batch = image.batch
        self.in_batch = parent.__parent__ is not None and not isinstance(parent.__parent__, Root)


class SeriesContainer(Container):
    """``/series``"""

    def find(self, key: int, name: str) -> SeriesResource:
        """Find a series with its study and patient."""
        wanted = sa.select(Series).where(Series.id == key).options(joinedload(Series.study).joinedload(Study.patient))
        return SeriesResource(self.request, name, self, _found(self.request.dbsession.scalar(wanted), name))


class SeriesResource(Resource):
    """``/series/<id>``"""

    def __init__(self, request: Any, name: str, parent: Resource, series: Series) -> None:
        super().__init__(request, name, parent)
        self.series = series


class PatientsContainer(Container):
    """``/patients``"""

    def find(self, key: int, name: str) -> PatientResource:
        """Find a patient."""
        return PatientResource(self.request, name, self, _found(self.request.dbsession.get(Patient, key), name))


class PatientResource(Resource):
    """``/patients/<id>``"""

    def __init__(self, request: Any, name: str, parent: Resource, patient: Patient) -> None:
        super().__init__(request, name, parent)
        self.patient = patient


class StudiesContainer(Container):
    """``/studies``"""

    def find(self, key: int, name: str) -> StudyResource:
        """Find a study with its patient."""
        wanted = sa.select(Study).where(Study.id == key).options(joinedload(Study.patient))
        return StudyResource(self.request, name, self, _found(self.request.dbsession.scalar(wanted), name))


class StudyResource(Resource):
    """``/studies/<id>``"""

    def __init__(self, request: Any, name: str, parent: Resource, study: Study) -> None:
        super().__init__(request, name, parent)
        self.study = study


class ArrivalsContainer(Container):
    """``/arrivals``"""

    def find(self, key: int, name: str) -> ArrivalResource:
        """Find a folder that waits."""
        return ArrivalResource(self.request, name, self, _found(self.request.dbsession.get(Arrival, key), name))


class ArrivalResource(Resource):
    """``/arrivals/<id>``"""

    def __init__(self, request: Any, name: str, parent: Resource, arrival: Arrival) -> None:
        super().__init__(request, name, parent)
        self.arrival = arrival


class JobsContainer(Container):
    """``/jobs``"""

    def find(self, key: int, name: str) -> JobResource:
        """Find a job."""
        return JobResource(self.request, name, self, _found(self.request.dbsession.get(Job, key), name))


class JobResource(Resource):
    """``/jobs/<id>``"""

    def __init__(self, request: Any, name: str, parent: Resource, job: Job) -> None:
        super().__init__(request, name, parent)
        self.job = job


class TokensContainer(Container):
    """``/tokens``: what programs show instead of the password."""

    def find(self, key: int, name: str) -> TokenResource:
        """Find a token."""
        return TokenResource(self.request, name, self, _found(self.request.dbsession.get(Token, key), name))


class TokenResource(Resource):
    """``/tokens/<id>``"""

    def __init__(self, request: Any, name: str, parent: Resource, token: Token) -> None:
        super().__init__(request, name, parent)
        self.token = token


class SearchesContainer(Container):
    """``/searches``: those with a name."""

    def find(self, key: int, name: str) -> SavedSearchResource:
        """Find a saved search."""
        return SavedSearchResource(self.request, name, self, _found(self.request.dbsession.get(SavedSearch, key), name))


class SavedSearchResource(Resource):
    """``/searches/<id>``"""

    def __init__(self, request: Any, name: str, parent: Resource, search: SavedSearch) -> None:
        super().__init__(request, name, parent)
        self.search = search


class LabelsContainer(Container):
    """``/labels``"""

    def find(self, key: int, name: str) -> LabelResource:
        """Find a label."""
        return LabelResource(self.request, name, self, _found(self.request.dbsession.get(Label, key), name))


class LabelResource(Resource):
    """``/labels/<id>``"""

    def __init__(self, request: Any, name: str, parent: Resource, label: Label) -> None:
        super().__init__(request, name, parent)
        self.label = label


class UploadsContainer(Resource):
    """``/upload``: the page, and uploads by their keys. None of them needs the database while it is not a batch."""

    def __getitem__(self, name: str) -> UploadResource:
        if not _KEY.fullmatch(name):
            raise KeyError(name)
        return UploadResource(self.request, name, self)


class UploadResource(Resource):
    """``/upload/<key>``. upload: while it is not a batch; batch_id: of the batch that it became or joined."""

    def __init__(self, request: Any, name: str, parent: Resource) -> None:
        super().__init__(request, name, parent)
        self.key = name
        self.upload: OpenUpload | None = None
        self.batch_id: int | None = None
        try:
            self.upload = OpenUpload(request.registry.settings["dicomweb"], name)
        except UploadGone:
            self.batch_id = _found(announced(request.registry["importer"], name), name)

    def __getitem__(self, name: str) -> UploadFilesResource:
        if name != "files":
            raise KeyError(name)
        return UploadFilesResource(self.request, name, self)


class UploadFilesResource(Resource):
    """``/upload/<key>/files``"""

    def __init__(self, request: Any, name: str, parent: UploadResource) -> None:
        super().__init__(request, name, parent)
        self.upload = parent.upload

    def __getitem__(self, name: str) -> UploadFileResource:
        return UploadFileResource(self.request, name, self)


class UploadFileResource(Resource):
    """``/upload/<key>/files/<id>``; whether there is such a file only its upload can tell."""

    def __init__(self, request: Any, name: str, parent: UploadFilesResource) -> None:
        super().__init__(request, name, parent)
        self.upload = parent.upload
        self.file_id = name


_CONTAINERS: dict[str, type[Resource]] = {
    "batches": BatchesContainer,
    "images": ImagesContainer,
    "patients": PatientsContainer,
    "series": SeriesContainer,
    "studies": StudiesContainer,
    "arrivals": ArrivalsContainer,
    "jobs": JobsContainer,
    "tokens": TokensContainer,
    "searches": SearchesContainer,
    "labels": LabelsContainer,
    "search": SearchResource,
    "console": ConsoleResource,
    "settings": SettingsResource,
    "statistics": StatisticsResource,
    "upload": UploadsContainer,
}


def _found(row: Any, name: str) -> Any:
    if row is None:
        raise KeyError(name)
    return row


def includeme(config: Any) -> None:
    """Make the tree the way to find a context, in a transaction, and put storage, doorbell, renderer and exports into the registry."""
    settings = config.registry.settings["dicomweb"]
    config.add_settings(
        {
            "tm.manager_hook": "pyramid_tm.explicit_manager",
            # An answer that says it failed must not have changed anything.
            "tm.commit_veto": "pyramid_tm.default_commit_veto",
            # Who is asking is read from the database, whose failures only the exception views can explain.
            "tm.annotate_user": False,
        }
    )
    config.include("pyramid_tm")
    config.registry["storage"] = Storage(settings.var / "storage", sync=settings["storage.sync"])
    config.registry["doorbell"] = Doorbell(settings.broker_url)
    config.registry["renderer"] = Renderer()
    # As many threads stay free for everything that is not a download.
    config.registry["exports"] = Exports(max(1, settings["web.threads"] // 2))
    config.set_root_factory(Root)
