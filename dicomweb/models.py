"""The tables: columns and constraints only; what may be done with them lives in the verbs (``batches``, ``imports``).

Three families. *What arrived*: ``Batch``, ``Image``, ``Outcome``, ``Arrival``, ``Job`` and the ``Patient``/``Study``/``Series`` that
images belong to. *What people add*: ``SavedSearch`` and ``Label``. *What the headers say*: the header groups of
``dicomweb.index`` (docs/architecture.md explains them).
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column, relationship

from dicomweb.db import Base
from dicomweb.languages import N_

# A header key is group id * GROUP_SIZE + ordinal of the image in its group.
GROUP_SIZE = 4096

IMAGE_STATUS = {
    "NEW": N_("The image was just added to the application."),
    "PROCESSING": N_("The image is currently being processed, and has not been sent."),
    "DONE": N_("The image has been imported."),
}
BATCH_STATUS = {
    "NEW": N_("The batch was just added to the application."),
    "PROCESSING": N_("The batch currently being processed."),
    "DONE": N_("The batch is done, and images are ready for cleanup."),
}
BATCH_SOURCE = {
    "folder": N_("A folder that was dropped into a watched folder."),
    "upload": N_("Files that were uploaded, with a browser or by a program."),
    "stow": N_("One request of a program over DICOMweb (STOW-RS)."),
    "dimse": N_("One association of a device over DIMSE (C-STORE)."),
}
OUTCOME_KIND = {
    "error": N_("The file could not be imported."),
    "conflict": N_("Another file with the same SOPInstanceUID and different bytes is already here; both are kept."),
    "duplicate": N_("The same file is already here; no second copy was made."),
    "skipped": N_("The file is no image, and was left out on purpose."),
}
CLEANUP_STATUS = {
    "asked": N_("A worker will remove the source folder."),
    "done": N_("The source folder is gone."),
    "kept": N_("The folder is still there, with files that were not imported."),
    "refused": N_("Nothing was removed, or not everything."),
}
JOB_STATUS = {
    "queued": N_("The job waits for a worker."),
    "running": N_("A worker is on the job."),
    "done": N_("The job is done."),
    "failed": N_("The job failed too often, and waits for a person."),
}

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Zone maps are compared by code point; any other collation would lose results without a word.
CodePointText = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(sa.types.TypeDecorator[datetime]):
    """A moment in UTC: ``timestamptz`` on PostgreSQL, whole microseconds since 1970 on SQLite."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(sa.DateTime(timezone=True) if dialect.name == "postgresql" else sa.BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return _EPOCH + timedelta(microseconds=value)


class FilePath(sa.types.TypeDecorator[str]):
    r"""A path as the operating system gave it (``os.fsdecode``), also when its bytes are not UTF-8.

    Stored as printable text: a backslash as ``\\``, a byte that is not UTF-8 as ``\xNN``.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else escape_path(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else unescape_path(value)


def escape_path(path: str) -> str:
    """Write a path as text that every database and page can hold."""
    return os.fsencode(path.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def unescape_path(text: str) -> str:
    """Give the path back that ``escape_path`` wrote."""
    if "\\" not in text:
        return text

    def byte(match: re.Match[bytes]) -> bytes:
        return bytes([int(match[1], 16)]) if match[1] else b"\\"

    return os.fsdecode(re.sub(rb"\\(?:x([0-9a-f]{2})|\\)", byte, text.encode()))


class Batch(Base):
    """What arrived together: one dropped folder, one upload, one STOW request, one DIMSE association."""

    __tablename__ = "batch"
    # An address names one batch for ever, so the ids of removed rows must not come again; so with images and jobs.
    __table_args__ = (
        sa.Index("ix_batch_created_at", "created_at"),
        sa.Index(
            "ix_batch_delete_at",
            "delete_at",
            postgresql_where=sa.text("delete_at IS NOT NULL"),
            sqlite_where=sa.text("delete_at IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, unique=True)
    source: Mapped[str] = mapped_column(
        sa.Text, default="folder", doc="Through which door: one of BATCH_SOURCE."
    )
    path: Mapped[str | None] = mapped_column(FilePath, doc="The folder the files of this batch lie in.")
    only_study: Mapped[str | None] = mapped_column(
        sa.Text, doc="STOW-RS: the StudyInstanceUID that every image of it must have; NULL: any."
    )
    status: Mapped[str] = mapped_column(sa.Text, default="NEW", index=True)
    open_scans: Mapped[int] = mapped_column(
        sa.Integer, default=1, doc="Folders still to be listed and cut into chunks."
    )
    deleting: Mapped[bool] = mapped_column(
        sa.Boolean, default=False, doc="Being deleted: nothing may be added any more."
    )
    has_error: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    created_at: Mapped[datetime] = mapped_column(Instant)
    modified_at: Mapped[datetime] = mapped_column(Instant)
    arrived_at: Mapped[datetime | None] = mapped_column(
        Instant, doc="When its folder was first seen; NULL: it never waited, or before this was noted."
    )
    began_at: Mapped[datetime | None] = mapped_column(Instant, doc="When its first chunk was begun.")
    done_at: Mapped[datetime | None] = mapped_column(Instant, doc="When its last file got its outcome; NULL: not yet.")
    file_count: Mapped[int] = mapped_column(sa.Integer, default=0, doc="Files found by the scan.")
    done_count: Mapped[int] = mapped_column(sa.Integer, default=0, doc="Files that have an outcome.")
    image_count: Mapped[int] = mapped_column(sa.Integer, default=0, doc="Files that became images, conflicts included.")
    error_count: Mapped[int] = mapped_column(sa.Integer, default=0, doc="Outcomes that are errors or conflicts.")
    notice_count: Mapped[int] = mapped_column(
        sa.Integer, default=0, doc="Outcomes that are duplicates or skipped files."
    )
    byte_count: Mapped[int] = mapped_column(sa.BigInteger, default=0, doc="Bytes of the images.")
    delete_at: Mapped[datetime | None] = mapped_column(
        Instant, doc="Somebody had it deleted: when that begins. Until then it can be taken back."
    )

    outcomes: Mapped[list[Outcome]] = relationship(back_populates="batch", lazy="raise", passive_deletes=True)


class Cleanup(Base):
    """What became of the wish to have the source folder of a batch removed; at most one a batch, the last one."""

    __tablename__ = "cleanup"

    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("batch.id", ondelete="CASCADE"), primary_key=True)
    status: Mapped[str] = mapped_column(sa.Text, index=True, doc="One of CLEANUP_STATUS.")
    asked_at: Mapped[datetime] = mapped_column(Instant)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)
    automatic: Mapped[bool] = mapped_column(sa.Boolean, doc="The setting wanted it, and nobody pressed a button.")
    files: Mapped[int] = mapped_column(sa.Integer, default=0, doc="Source files that are gone.")
    bytes: Mapped[int] = mapped_column(sa.BigInteger, default=0, doc="Their bytes.")
    kept: Mapped[int] = mapped_column(sa.Integer, default=0, doc="Files that were left where they are.")
    reason: Mapped[str | None] = mapped_column(sa.Text, doc="Why not everything is gone, as a sentence.")


class Claim(Base):
    """An arrival that was made a batch. It outlives the batch: a deleted one must not be imported again by the next scan."""

    __tablename__ = "claim"

    path_sha256: Mapped[bytes] = mapped_column(
        sa.LargeBinary(32), primary_key=True, doc="Of the path: the name of a folder may be the name of a patient."
    )
    stamp: Mapped[str] = mapped_column(
        sa.Text, primary_key=True, doc="What said that the folder was complete, and when."
    )


class Patient(Base):
    """Who was imaged, as far as the headers tell: the same ID, name and birth date is the same patient."""

    __tablename__ = "patient"
    __table_args__ = (sa.UniqueConstraint("patient_id", "patient_name", "patient_birth_date"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    patient_id: Mapped[str] = mapped_column(sa.Text, doc="(0010,0020) LO PatientID")
    patient_name: Mapped[str] = mapped_column(sa.Text, doc="(0010,0010) PN PatientName")
    patient_birth_date: Mapped[str] = mapped_column(sa.Text, doc="(0010,0030) DA PatientBirthDate")
    patient_sex: Mapped[str] = mapped_column(sa.Text, doc="(0010,0040) CS PatientSex")


class Study(Base):
    """One study; of a StudyInstanceUID used for two patients the first one seen."""

    __tablename__ = "study"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(sa.Text, unique=True, doc="(0020,000D) UI StudyInstanceUID")
    patient_key: Mapped[int] = mapped_column(sa.ForeignKey("patient.id"), index=True)
    study_date: Mapped[str] = mapped_column(sa.Text, index=True, doc="(0008,0020) DA StudyDate")
    study_time: Mapped[str] = mapped_column(sa.Text, doc="(0008,0030) TM StudyTime")
    accession_number: Mapped[str] = mapped_column(sa.Text, index=True, doc="(0008,0050) SH AccessionNumber")
    study_id: Mapped[str] = mapped_column(sa.Text, doc="(0020,0010) SH StudyID")
    study_description: Mapped[str] = mapped_column(sa.Text, doc="(0008,1030) LO StudyDescription")
    referring_physician_name: Mapped[str] = mapped_column(sa.Text, doc="(0008,0090) PN ReferringPhysicianName")

    patient: Mapped[Patient] = relationship(lazy="raise")


class Series(Base):
    """One series of one study."""

    __tablename__ = "series"
    __table_args__ = (sa.UniqueConstraint("series_instance_uid", "study_key"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    series_instance_uid: Mapped[str] = mapped_column(sa.Text, doc="(0020,000E) UI SeriesInstanceUID")
    study_key: Mapped[int] = mapped_column(sa.ForeignKey("study.id"), index=True)
    modality: Mapped[str] = mapped_column(sa.Text, doc="(0008,0060) CS Modality")
    series_number: Mapped[str] = mapped_column(sa.Text, doc="(0020,0011) IS SeriesNumber")
    series_description: Mapped[str] = mapped_column(sa.Text, doc="(0008,103E) LO SeriesDescription")
    series_date: Mapped[str] = mapped_column(sa.Text, doc="(0008,0021) DA SeriesDate")
    series_time: Mapped[str] = mapped_column(sa.Text, doc="(0008,0031) TM SeriesTime")
    body_part_examined: Mapped[str] = mapped_column(sa.Text, doc="(0018,0015) CS BodyPartExamined")
    protocol_name: Mapped[str] = mapped_column(sa.Text, doc="(0018,1030) LO ProtocolName")

    study: Mapped[Study] = relationship(lazy="raise")


class Image(Base):
    """One DICOM instance of a batch; from the scan on, when only its file is known.

    The first instance with a SOPInstanceUID has version 0, a conflicting one (other bytes) the next number; so one unique
    constraint keeps five workers from storing a file twice.
    """

    __tablename__ = "image"
    __table_args__ = (
        sa.Index("ix_image_batch_id_id", "batch_id", "id"),
        sa.Index("ix_image_sop_instance_uid_version", "sop_instance_uid", "version", unique=True),
        sa.Index("ix_image_added_at_header_key", "added_at", "header_key"),
        sa.Index(
            "ix_image_open",
            "status",
            "id",
            postgresql_where=sa.text("status <> 'DONE'"),
            sqlite_where=sa.text("status <> 'DONE'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("batch.id"))
    path: Mapped[str] = mapped_column(FilePath, doc="Relative to the folder of the batch.")
    place: Mapped[str | None] = mapped_column(
        sa.Text, doc="Of an uploaded file that is not imported yet: where it lies in the folder of deliveries."
    )
    status: Mapped[str] = mapped_column(sa.Text, default="NEW")
    sop_instance_uid: Mapped[str | None] = mapped_column(sa.Text, doc="(0008,0018) UI SOPInstanceUID")
    version: Mapped[int] = mapped_column(sa.SmallInteger, default=0)
    series_id: Mapped[int | None] = mapped_column(BigId)
    header_key: Mapped[int | None] = mapped_column(BigId, unique=True, doc="Group and ordinal in the header index.")
    instance_number: Mapped[int | None] = mapped_column(sa.BigInteger, doc="(0020,0013) IS InstanceNumber")
    element_count: Mapped[int | None] = mapped_column(sa.Integer, doc="Header elements, nested ones included.")
    sha256: Mapped[bytes | None] = mapped_column(sa.LargeBinary(32), doc="Of the bytes of the file.")
    pack_id: Mapped[int | None] = mapped_column(
        BigId, doc="Which pack holds the bytes; NULL: they are only at their path."
    )
    pack_offset: Mapped[int | None] = mapped_column(sa.BigInteger, doc="Where in the pack they begin.")
    size: Mapped[int | None] = mapped_column(sa.BigInteger, doc="Bytes of the file.")
    mtime_ns: Mapped[int | None] = mapped_column(sa.BigInteger, doc="Of the file when it was scanned.")
    pixel_offset: Mapped[int | None] = mapped_column(
        sa.BigInteger, doc="Where the value of the pixel data begins; NULL without, or when the file is deflated."
    )
    pixel_length: Mapped[int | None] = mapped_column(sa.BigInteger)
    frame_table: Mapped[bytes | None] = mapped_column(
        sa.LargeBinary, doc="Of encapsulated pixel data: where its fragments lie (see imports.pack_fragments)."
    )
    added_at: Mapped[datetime | None] = mapped_column(Instant)

    batch: Mapped[Batch] = relationship(lazy="raise")
    series: Mapped[Series | None] = relationship(lazy="raise", primaryjoin="foreign(Image.series_id) == Series.id")


class Outcome(Base):
    """What became of a file when it did not simply become an image; at most one a file.

    A failed, duplicate or skipped file has this row instead of an image; a conflict has an image and this row.
    """

    __tablename__ = "outcome"
    __table_args__ = (sa.Index("ix_outcome_batch_id_kind_id", "batch_id", "kind", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("batch.id"))
    path: Mapped[str] = mapped_column(FilePath, doc="Relative to the folder of the batch.")
    place: Mapped[str | None] = mapped_column(
        sa.Text, doc="Of an uploaded file that is kept: where it lies in the folder of deliveries."
    )
    kind: Mapped[str] = mapped_column(sa.Text, doc="One of OUTCOME_KIND.")
    code: Mapped[str] = mapped_column(
        sa.Text, doc="Short and stable, for programs: truncated, not-dicom, duplicate, ..."
    )
    message: Mapped[str] = mapped_column(sa.Text, doc="A sentence for people.")
    size: Mapped[int | None] = mapped_column(sa.BigInteger)
    image_id: Mapped[int | None] = mapped_column(
        BigId, index=True, doc="duplicate: the image that is already here; conflict: the image this file became."
    )
    other_image_id: Mapped[int | None] = mapped_column(
        BigId, index=True, doc="conflict: the image that was here first."
    )
    at: Mapped[datetime] = mapped_column(Instant)

    batch: Mapped[Batch] = relationship(back_populates="outcomes", lazy="raise")


class Upload(Base):
    """Files that somebody sent over the network, by upload, STOW-RS or DIMSE, and that became a batch or joined one."""

    __tablename__ = "upload"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    folder: Mapped[str] = mapped_column(sa.Text, unique=True, doc="Its name in the folder of deliveries, which begins with the door.")
    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("batch.id", ondelete="CASCADE"), index=True)
    joined: Mapped[bool] = mapped_column(sa.Boolean, doc="The batch was there before.")
    sender: Mapped[str] = mapped_column(
        sa.Text, doc="Who sent it: session, program, open, or token and its name; over DIMSE the calling AE title."
    )
    address: Mapped[str] = mapped_column(sa.Text, doc="The address of the sender.")
    file_count: Mapped[int] = mapped_column(sa.Integer, doc="Files as they were sent; an archive is one.")
    byte_count: Mapped[int] = mapped_column(sa.BigInteger)
    begun_at: Mapped[datetime] = mapped_column(Instant)
    at: Mapped[datetime] = mapped_column(Instant, doc="When it became a batch.")

    @property
    def door(self) -> str:
        """Through which door it came: ``upload``, ``stow`` or ``dimse``."""
        return self.folder.partition("-")[0]


class Arrival(Base):
    """A folder (or loose file) in a watched root that is not a batch yet, as the watcher last saw it."""

    __tablename__ = "arrival"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    path: Mapped[str] = mapped_column(FilePath, unique=True)
    is_folder: Mapped[bool] = mapped_column(sa.Boolean)
    files: Mapped[int] = mapped_column(sa.Integer, default=0)
    bytes: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    reason: Mapped[str] = mapped_column(sa.Text, doc="Why it waits, as a sentence.")
    seen_at: Mapped[datetime] = mapped_column(Instant, doc="First seen.")
    changed_at: Mapped[datetime] = mapped_column(Instant, doc="When its content last changed.")


class Job(Base):
    """What a worker owes; the broker message that names it is only a doorbell."""

    __tablename__ = "job"
    __table_args__ = (
        sa.Index(
            "ix_job_open",
            "status",
            "due_at",
            postgresql_where=sa.text("status IN ('queued','running')"),
            sqlite_where=sa.text("status IN ('queued','running')"),
        ),
        sa.Index("ix_job_status_id", "status", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    kind: Mapped[str] = mapped_column(sa.Text, doc="The name of its handler: scan_batch, import_chunk, ...")
    payload: Mapped[dict[str, Any]] = mapped_column(Json)
    batch_id: Mapped[int | None] = mapped_column(BigId, index=True)
    status: Mapped[str] = mapped_column(sa.Text, default="queued")
    attempts: Mapped[int] = mapped_column(sa.Integer, default=0)
    due_at: Mapped[datetime] = mapped_column(Instant, doc="Not to be started before.")
    lease_until: Mapped[datetime | None] = mapped_column(Instant, doc="Running: when another worker may take it over.")
    worker: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(Instant)
    started_at: Mapped[datetime | None] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
    error: Mapped[str | None] = mapped_column(sa.Text, doc="The last error, as a sentence without header values.")


class Worker(Base):
    """A worker process and its last sign of life."""

    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(sa.Text, primary_key=True, doc="host:pid")
    started_at: Mapped[datetime] = mapped_column(Instant)
    seen_at: Mapped[datetime] = mapped_column(Instant)
    memory: Mapped[int | None] = mapped_column(sa.BigInteger, doc="Bytes of memory it had at its last sign of life.")


class WatcherWish(Base):
    """What people want of the watcher, which reads this single row (id 1) every few seconds, wherever it runs."""

    __tablename__ = "watcher_wish"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    rests: Mapped[bool] = mapped_column(sa.Boolean, default=False, doc="It shall look at nothing and claim nothing.")
    rescan_at: Mapped[datetime | None] = mapped_column(Instant, doc="When a scan was last asked for.")
    changed_at: Mapped[datetime] = mapped_column(Instant)


class Sample(Base):
    """How things were at a whole minute. Old ones are thinned out, so that there are never more than a few thousand."""

    __tablename__ = "sample"

    at: Mapped[datetime] = mapped_column(Instant, primary_key=True, autoincrement=False)
    queued: Mapped[int] = mapped_column(sa.Integer)
    running: Mapped[int] = mapped_column(sa.Integer)
    failed: Mapped[int] = mapped_column(sa.Integer)
    workers: Mapped[int] = mapped_column(sa.Integer, doc="Alive.")
    images: Mapped[int] = mapped_column(sa.BigInteger)
    bytes: Mapped[int] = mapped_column(sa.BigInteger, doc="Of the images.")
    free: Mapped[int] = mapped_column(sa.BigInteger, doc="Free bytes of the disk of the state folder.")


class WebSession(Base):
    """A browser that gave the password; ending the session deletes the row."""

    __tablename__ = "web_session"

    token_hash: Mapped[str] = mapped_column(sa.Text, primary_key=True, doc="SHA-256 of the cookie's token.")
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant)
    address: Mapped[str] = mapped_column(sa.Text, default="", server_default="", doc="Where the browser was last seen.")
    browser: Mapped[str] = mapped_column(sa.Text, default="", server_default="", doc="What it called itself when it began.")
    seen_at: Mapped[datetime | None] = mapped_column(Instant, doc="When it last asked for something, to the minute.")


class Token(Base):
    """What a program shows instead of the password; revoking it deletes the row."""

    __tablename__ = "token"
    # A removed token's number must not come again: a page that is still open would revoke another one.
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, unique=True)
    secret_hash: Mapped[str] = mapped_column(sa.Text, unique=True, doc="SHA-256 of the secret, which is kept nowhere.")
    writes: Mapped[bool] = mapped_column(sa.Boolean, doc="May change things; else it may only read.")
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime | None] = mapped_column(Instant, doc="NULL: never.")
    used_at: Mapped[datetime | None] = mapped_column(Instant, doc="When it was last used, to the minute.")


class Pack(Base):
    """A file of the storage: the bytes of the images that one chunk imported, one after the other."""

    __tablename__ = "pack"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, doc="Relative to the storage folder.")
    images: Mapped[int] = mapped_column(sa.Integer, doc="How many images have their bytes in it now.")


class Discard(Base):
    """Stored bytes that no image needs any more, still to be removed from the disk."""

    __tablename__ = "discard"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, doc="The pack.")
    offset: Mapped[int | None] = mapped_column(sa.BigInteger, doc="NULL: the whole pack.")
    length: Mapped[int | None] = mapped_column(sa.BigInteger)


class SavedSearch(Base):
    """A query that somebody gave a name."""

    __tablename__ = "saved_search"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, unique=True)
    query: Mapped[str] = mapped_column(sa.Text, doc="As it is written, see docs/search.md.")
    level: Mapped[str] = mapped_column(sa.Text, doc="image, series or study.")
    columns: Mapped[list[str]] = mapped_column(Json, doc="Names of columns, in order.")
    created_at: Mapped[datetime] = mapped_column(Instant)


class Label(Base):
    """A word that people put on batches, studies, series and images."""

    __tablename__ = "label"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, unique=True)
    folded: Mapped[str] = mapped_column(sa.Text, unique=True, doc="What a search looks at, so that no two names look alike to it.")
    created_at: Mapped[datetime] = mapped_column(Instant)


class LabelLink(Base):
    """A label on one batch, study, series or image; exactly one of the four is there. Deleting that one deletes the link."""

    __tablename__ = "label_link"
    __table_args__ = (
        sa.Index("ix_label_link_batch_id", "batch_id", "label_id", unique=True),
        sa.Index("ix_label_link_study_id", "study_id", "label_id", unique=True),
        sa.Index("ix_label_link_series_id", "series_id", "label_id", unique=True),
        sa.Index("ix_label_link_image_id", "image_id", "label_id", unique=True),
        sa.CheckConstraint(
            "CASE WHEN batch_id IS NULL THEN 0 ELSE 1 END + CASE WHEN study_id IS NULL THEN 0 ELSE 1 END"
            " + CASE WHEN series_id IS NULL THEN 0 ELSE 1 END + CASE WHEN image_id IS NULL THEN 0 ELSE 1 END = 1",
            name="one_target",
        ),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    label_id: Mapped[int] = mapped_column(sa.ForeignKey("label.id", ondelete="CASCADE"), index=True)
    batch_id: Mapped[int | None] = mapped_column(sa.ForeignKey("batch.id", ondelete="CASCADE"))
    study_id: Mapped[int | None] = mapped_column(sa.ForeignKey("study.id", ondelete="CASCADE"))
    series_id: Mapped[int | None] = mapped_column(sa.ForeignKey("series.id", ondelete="CASCADE"))
    image_id: Mapped[int | None] = mapped_column(sa.ForeignKey("image.id", ondelete="CASCADE"))


class _Array(sa.types.TypeDecorator[list[Any]]):
    """An array with one value an image: an array on PostgreSQL, JSON text on SQLite (written by ``index.dialect``)."""

    impl = sa.Text
    cache_ok = True
    item: Any = sa.Text

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(postgresql.ARRAY(self.item()) if dialect.name == "postgresql" else sa.Text())


class NumberArray(_Array):
    """Numbers, NULL where an image has none."""

    item = sa.Double
    cache_ok = True


class TextArray(_Array):
    """Texts, NULL where an image has none."""

    item = sa.Text
    cache_ok = True


class PlaceArray(_Array):
    """Which of some texts each image has."""

    item = sa.SmallInteger
    cache_ok = True


class Field(Base):
    """A path that some header has: ``00080060``, ``00400275/00400009``, ``0019[GEMS_ACQU_01]02``."""

    __tablename__ = "field"

    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    path: Mapped[str] = mapped_column(sa.Text, unique=True)
    vr: Mapped[str] = mapped_column(sa.Text, doc="The VR it was first seen with.")
    promoted: Mapped[bool] = mapped_column(
        sa.Boolean, default=False, doc="Its varying numbers are PromotedNumber rows too."
    )


class Header(Base):
    """The dictionary: one value of one path, its id a hash of both, so that writing needs no look-up.

    The last three bits of the id are the kind of the value (``dicomweb.index.values.Kind``).
    """

    __tablename__ = "header"
    __table_args__ = (
        sa.Index(
            "ix_header_number",
            "field_id",
            "number",
            postgresql_where=sa.text("number IS NOT NULL"),
            sqlite_where=sa.text("number IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    field_id: Mapped[int] = mapped_column(sa.Integer)
    text: Mapped[str | None] = mapped_column(
        CodePointText, doc="As it was written; NULL when that is the same as folded."
    )
    folded: Mapped[str] = mapped_column(CodePointText, doc="Without case and accents; what a search looks at.")
    number: Mapped[float | None] = mapped_column(sa.Double)


class HeaderGroup(Base):
    """Images of one chunk that share a header set."""

    __tablename__ = "header_group"
    # A header key names one image for ever, so the ids of removed groups must not come again.
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("batch.id"), index=True)
    images: Mapped[int] = mapped_column(sa.Integer, doc="How many images it holds now.")


class GroupSeries(Base):
    """Which series a group holds images of."""

    __tablename__ = "group_series"
    __table_args__ = {"sqlite_with_rowid": False}

    group_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    series_id: Mapped[int] = mapped_column(sa.ForeignKey("series.id"), primary_key=True, index=True)
    images: Mapped[int] = mapped_column(sa.Integer)


class GroupHeader(Base):
    """A dictionary value that all images of a group carry."""

    __tablename__ = "group_header"
    __table_args__ = {"sqlite_with_rowid": False}

    field_id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    header_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    group_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, index=True)


class GroupColumn(Base):
    """A path whose values vary within a group: one value an image, and the zone (smallest, largest) they lie in.

    An element with several values takes several slots.
    """

    __tablename__ = "group_column"
    __table_args__ = (
        sa.Index(
            "ix_group_column_numbers",
            "field_id",
            "number_min",
            "number_max",
            "group_id",
            postgresql_where=sa.text("number_min IS NOT NULL"),
            sqlite_where=sa.text("number_min IS NOT NULL"),
        ),
        sa.Index("ix_group_column_texts", "field_id", "text_min", "text_max", "group_id"),
    )

    group_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    field_id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    slot: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    images: Mapped[int] = mapped_column(
        sa.Integer, doc="How many images of the group have a value of this path here, in any slot."
    )
    number_min: Mapped[float | None] = mapped_column(sa.Double)
    number_max: Mapped[float | None] = mapped_column(sa.Double)
    text_min: Mapped[str] = mapped_column(CodePointText, doc="Of the folded texts, cut short.")
    text_max: Mapped[str] = mapped_column(
        CodePointText, doc="Of the folded texts, cut short and made larger than what it was cut from."
    )
    # Before the arrays, which SQLite would have to pass through to come to it.
    words: Mapped[str | None] = mapped_column(
        CodePointText, doc="Of text (no numbers, no UIDs): the distinct folded texts, a line each."
    )
    numbers: Mapped[list[float | None] | None] = mapped_column(NumberArray, doc="One an image.")
    texts: Mapped[list[str | None]] = mapped_column(
        TextArray, doc="As they were written: one an image, or each once when there are places."
    )
    folded: Mapped[list[str | None] | None] = mapped_column(
        TextArray, doc="The texts without case and accents; NULL when that changes none of them."
    )
    places: Mapped[list[int | None] | None] = mapped_column(
        PlaceArray, doc="Which image has which of the texts (see index.dialect)."
    )


class PromotedNumber(Base):
    """A varying number of an often searched path as a plain row."""

    __tablename__ = "promoted_number"
    __table_args__ = {"sqlite_with_rowid": False}

    field_id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    number: Mapped[float] = mapped_column(sa.Double, primary_key=True)
    header_key: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)


class GroupDocument(Base):
    """The compressed document from which the complete header of each image of a group is rebuilt."""

    __tablename__ = "group_document"

    group_id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    document: Mapped[bytes] = mapped_column(sa.LargeBinary)
