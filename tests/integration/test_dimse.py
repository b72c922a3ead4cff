"""The DIMSE listener against dcmtk's clients, and against clients that keep to nothing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, StoragePresentationContexts, build_context
from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelFind, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationSocket

from dicomweb import imports
from dicomweb.imports import Delivery, Importer
from dicomweb.models import Batch, Image, Upload
from dicomweb.settings import Settings
from dimse import associations, connections, listener
from dimse.listener import Listener
from tests import dicom_files, services
from tests.importing import (
    bytes_of,
    changed,
    check_consistency,
    codes_of,
    drain_everything,
    importer_of,
    rows,
    storage_of,
)
from tests.programs import Program, program, wait_for

# What does not depend on the database.
once = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def close_connection(self: Any) -> None:
    """Close a connection of a client: the library leaves those open that the other side has ended."""
    if self.socket is not None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


AssociationSocket._shutdown_socket = close_connection


def dcmtk(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of dcmtk."""
    found = shutil.which(name) or services.missing(name)
    return subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, timeout=60)


class Installation:
    """A listener in this process, and what its batches became."""

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings
        self.importer = importer_of(engine, settings)
        self.listener = Listener(self.importer)
        # The port is chosen by the system; the setting says that there is one.
        self.listener.start()

    def batches(self, count: int) -> list[Batch]:
        """Wait for batches and import them."""
        wait_for(lambda: len(rows(self.engine, sa.select(Batch.id))) >= count, f"{count} batches")
        drain_everything(self.importer)
        return rows(self.engine, sa.select(Batch).order_by(Batch.id))


@pytest.fixture
def start(engine: sa.Engine, settings: Settings) -> Iterator[Any]:
    started: list[Installation] = []

    def begin(**values: str) -> Installation:
        started.append(Installation(engine, changed(settings, dimse__port="0", **values)))
        return started[-1]

    yield begin
    for installation in started:
        installation.listener.stop()
    check_consistency(engine, storage_of(settings))


def write_files(folder: Path, count: int, **elements: Any) -> list[Path]:
    folder.mkdir(parents=True)
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(dicom_files.image_bytes(f"{folder.name}/{number}", **elements))
    return paths


def same_dataset(one: bytes, other: Path) -> bool:
    """Equal but for the file meta information, which the receiver writes."""
    first, second = pydicom.dcmread(pydicom.filebase.DicomBytesIO(one)), pydicom.dcmread(other)
    return first.file_meta.TransferSyntaxUID == second.file_meta.TransferSyntaxUID and first == second


@once
def test_who_calls_the_right_title_is_answered_and_nobody_else(start: Any) -> None:
    port = str(start(dimse__aet="ARCHIVE", dimse__callers="SCANNER OTHER").listener.port)
    assert dcmtk("echoscu", "-aet", "SCANNER", "-aec", "ARCHIVE", "localhost", port).returncode == 0
    refused = dcmtk("echoscu", "-aet", "SCANNER", "-aec", "ELSE", "localhost", port)
    assert refused.returncode != 0
    assert "Called AE Title Not Recognized" in refused.stdout + refused.stderr
    refused = dcmtk("echoscu", "-aet", "STRANGER", "-aec", "ARCHIVE", "localhost", port)
    assert refused.returncode != 0
    assert "Calling AE Title Not Recognized" in refused.stdout + refused.stderr


@once
def test_another_title_may_be_called_when_the_setting_says_so(start: Any) -> None:
    port = str(start(dimse__any_called="on").listener.port)
    assert dcmtk("echoscu", "-aec", "WHATEVER", "localhost", port).returncode == 0


def test_an_association_is_a_batch_and_each_object_the_one_that_was_sent(start: Any, tmp_path: Path) -> None:
    here = start()
    paths = write_files(tmp_path / "sent", 5)
    sent = dcmtk("storescu", "-aet", "SCANNER", "-aec", "DICOMWEB", "localhost", str(here.listener.port), *paths)
    assert sent.returncode == 0, sent.stderr
    [batch] = here.batches(1)
    assert re.fullmatch(r"DIMSE \d{4}-\d\d-\d\d \d\d:\d\d:\d\d SCANNER [0-9a-f]{6}", batch.name)
    [upload] = rows(here.engine, sa.select(Upload))
    assert (upload.batch_id, upload.door, upload.sender, upload.address, upload.file_count) == (batch.id, "dimse", "SCANNER", "127.0.0.1", batch.file_count)
    assert (batch.source, batch.status, batch.image_count, batch.has_error) == ("dimse", "DONE", 5, False)
    images = rows(here.engine, sa.select(Image).order_by(Image.path))
    for image, path in zip(images, paths, strict=True):
        assert same_dataset(bytes_of(here.engine, here.settings, image), path)
    assert list(imports.incoming_folder(here.settings).iterdir()) == []
    assert list((here.settings.var / "spool").rglob("*.dcm")) == []


@once
def test_every_transfer_syntax_is_taken_as_it_is(start: Any, pydicom_files: tuple[Path, ...]) -> None:
    here = start()
    syntaxes = {}
    for path in pydicom_files:
        try:
            header = pydicom.dcmread(path, specific_tags=["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"])
            complete = all(header.get(name) for name in ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"))
            if complete and "charset" not in str(path) and path.stat().st_size < 1_000_000:
                syntaxes.setdefault(str(header.file_meta.TransferSyntaxUID), path)
        except (pydicom.errors.InvalidDicomError, AttributeError, UserWarning):
            continue
    assert len(syntaxes) >= 8
    entity = AE("SCANNER")
    for syntax, path in syntaxes.items():
        entity.add_requested_context(str(pydicom.dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID), syntax)
    association = entity.associate("127.0.0.1", here.listener.port, ae_title="DICOMWEB")
    assert association.is_established
    statuses = {path: association.send_c_store(path).get("Status") for path in syntaxes.values()}
    association.release()
    assert set(statuses.values()) == {0}
    [batch] = here.batches(1)
    assert batch.file_count == len(syntaxes)
    stored = {pydicom.dcmread(pydicom.filebase.DicomBytesIO(bytes_of(here.engine, here.settings, image))).file_meta.TransferSyntaxUID for image in rows(here.engine, sa.select(Image))}
    assert len(stored) >= 8


def test_five_associations_at_once_are_five_batches_and_nothing_is_lost_or_doubled(start: Any, tmp_path: Path) -> None:
    here = start()
    common = write_files(tmp_path / "common", 3)
    folders = [write_files(tmp_path / f"sender{number}", 8) for number in range(5)]
    port = str(here.listener.port)
    codes: list[int] = []

    def send(paths: list[Path]) -> None:
        codes.append(dcmtk("storescu", "-aec", "DICOMWEB", "localhost", port, *paths, *common).returncode)

    threads = [threading.Thread(target=send, args=(paths,)) for paths in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 5
    batches = here.batches(5)
    assert [batch.file_count for batch in batches] == [11] * 5
    assert len(rows(here.engine, sa.select(Image.id))) == 5 * 8 + 3
    became = [code for batch in batches for code in codes_of(here.engine, batch).values()]
    assert (became.count("imported"), became.count("duplicate")) == (43, 12)


@once
def test_what_came_before_an_abort_is_kept(start: Any, tmp_path: Path) -> None:
    here = start()
    paths = write_files(tmp_path / "sent", 3)
    entity = AE("SCANNER")
    entity.requested_contexts = StoragePresentationContexts
    association = entity.associate("127.0.0.1", here.listener.port, ae_title="DICOMWEB")
    for path in paths[:2]:
        assert association.send_c_store(path).Status == 0
    association.abort()
    [batch] = here.batches(1)
    assert batch.image_count == 2


@once
def test_objects_beyond_the_bound_are_refused_and_those_within_kept(start: Any, tmp_path: Path) -> None:
    here = start(dimse__max_objects="2")
    entity = AE("SCANNER")
    entity.requested_contexts = StoragePresentationContexts
    association = entity.associate("127.0.0.1", here.listener.port, ae_title="DICOMWEB")
    statuses = [association.send_c_store(path).Status for path in write_files(tmp_path / "sent", 3)]
    association.release()
    assert statuses == [0, 0, 0xA700]
    assert here.batches(1)[0].image_count == 2


@once
def test_an_association_that_sends_too_much_is_ended(start: Any, tmp_path: Path) -> None:
    here = start(dimse__max_bytes="200K")
    [small] = write_files(tmp_path / "small", 1)
    large = tmp_path / "large.dcm"
    large.write_bytes(dicom_files.image_bytes("large", EncapsulatedDocument=b"x" * 500_000))
    entity = AE("SCANNER")
    entity.requested_contexts = StoragePresentationContexts
    association = entity.associate("127.0.0.1", here.listener.port, ae_title="DICOMWEB")
    assert association.send_c_store(small).Status == 0
    assert "Status" not in association.send_c_store(large)
    [batch] = here.batches(1)
    assert batch.image_count == 1
    wait_for(lambda: not list((here.settings.var / "spool").rglob("*.dcm")), "the object that was cut off is removed")


@once
def test_no_more_associations_at_once_than_the_setting_says(start: Any) -> None:
    here = start(dimse__max_associations="1")
    entity = AE("SCANNER")
    entity.add_requested_context(Verification)
    first = entity.associate("127.0.0.1", here.listener.port, ae_title="DICOMWEB")
    assert first.is_established
    [accepted] = here.listener._server.active_associations
    assert accepted.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    second = entity.associate("127.0.0.1", here.listener.port, ae_title="DICOMWEB")
    assert second.is_rejected
    first.release()


@once
@pytest.mark.parametrize("uid", ["../../../../x", "1.2/../../x", "1\x002"])
def test_no_path_comes_from_what_a_sender_says(start: Any, tmp_path: Path, uid: str) -> None:
    here = start()
    dataset = pydicom.dcmread(write_files(tmp_path / "sent", 1)[0])
    entity = AE("SCANNER")
    entity.add_requested_context(CTImageStorage, ImplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", here.listener.port, ae_title="DICOMWEB")
    before = {path for path in tmp_path.rglob("*") if "var" not in path.parts}
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    with pydicom.config.disable_value_validation():
        dataset.SOPInstanceUID = uid
        dataset.file_meta.MediaStorageSOPInstanceUID = uid
        # Some of it the client's library does not even send.
        with contextlib.suppress(ValueError, AttributeError):
            association.send_c_store(dataset)
    association.release()
    assert {path for path in tmp_path.rglob("*") if "var" not in path.parts} == before


@once
@pytest.mark.parametrize("nonsense", [b"GET / HTTP/1.0\r\n\r\n", b"\x01\x00\xff\xff\xff\xff" + b"\0" * 100, b"\x04\x00\0\0\0\x10" + b"\xff" * 16])
def test_nonsense_ends_with_its_connection_and_others_go_on(start: Any, nonsense: bytes) -> None:
    here = start()
    with socket.create_connection(("127.0.0.1", here.listener.port), timeout=10) as connection:
        connection.sendall(nonsense)
    assert dcmtk("echoscu", "-aec", "DICOMWEB", "localhost", str(here.listener.port)).returncode == 0


def associated(here: Installation) -> Any:
    entity = AE("SCANNER")
    entity.requested_contexts = [*StoragePresentationContexts[:100], build_context(StudyRootQueryRetrieveInformationModelFind)]
    association = entity.associate("127.0.0.1", here.listener.port, ae_title="DICOMWEB")
    assert association.is_established
    return association


def raw(association: Any) -> socket.socket:
    """The connection of an association, to send by it what its library would not."""
    connection: socket.socket = association.dul.socket.socket
    return connection


class TestBounds:
    pytestmark = once

    def test_a_pdu_that_claims_to_be_huge_is_not_waited_for(self, start: Any) -> None:
        here = start()
        for kind in (1, 4):
            with socket.create_connection(("127.0.0.1", here.listener.port), timeout=30) as connection:
                connection.sendall(bytes((kind, 0, 0xFF, 0xFF, 0xFF, 0xFF)) + bytes(1000))
                with contextlib.suppress(ConnectionResetError):
                    assert connection.recv(100) == b""

    def test_a_sender_that_stops_within_a_pdu_is_cut_off_and_what_it_sent_is_kept(self, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "SILENT_SECONDS", 1.0)
        here = start()
        association = associated(here)
        assert association.send_c_store(write_files(tmp_path / "sent", 1)[0]).Status == 0
        raw(association).sendall(b"\x04\x00\x00\x00\x10\x00" + bytes(10))
        assert here.batches(1)[0].image_count == 1
        association.abort()

    # The thread of the library that reads ends with an error.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_what_the_library_cannot_read_ends_the_association_and_what_came_before_is_kept(self, start: Any, tmp_path: Path) -> None:
        here = start()
        association = associated(here)
        assert association.send_c_store(write_files(tmp_path / "sent", 1)[0]).Status == 0
        # A command without any element, whose kind the library looks for all the same.
        raw(association).sendall(b"\x04\x00\x00\x00\x00\x06\x00\x00\x00\x02\x01\x03")
        assert here.batches(1)[0].image_count == 1
        assert here.listener._received == {}
        association.abort()

    def test_a_request_that_would_fill_the_memory_ends_its_association(self, start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listener, "MOST_REQUEST_BYTES", 100_000)
        here = start()
        association = associated(here)
        identifier = pydicom.Dataset()
        identifier.QueryRetrieveLevel = "STUDY"
        identifier.StudyComments = "x" * 60_000
        assert [status.Status for status, _ in association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind)] == [0]
        identifier.add_new(0x00204000, "UT", "x" * 1_000_000)
        answers = list(association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind))
        assert [status.get("Status") for status, _ in answers] == [None]

    def test_connections_that_ask_for_nothing_are_bounded_too(self, start: Any) -> None:
        here = start(dimse__max_associations="1")
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(socket.create_connection(("127.0.0.1", here.listener.port), timeout=30)) for _ in range(11)]
            wait_for(lambda: len(here.listener._server.active_associations) >= 11, "the connections are accepted")
            with socket.create_connection(("127.0.0.1", here.listener.port), timeout=30) as one_more:
                assert one_more.recv(1) == b""
            assert len(held) == 11

    def test_without_room_on_the_disk_an_object_is_refused_and_a_large_one_is_cut_off(self, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        here = start()
        small, other = write_files(tmp_path / "small", 2)
        [large] = write_files(tmp_path / "large", 1, EncapsulatedDocument=b"x" * 500_000)
        association = associated(here)
        assert association.send_c_store(small).Status == 0
        monkeypatch.setattr(associations, "SPARE_BYTES", 1 << 62)
        assert association.send_c_store(other).Status == 0xA700
        association.release()
        monkeypatch.setattr(associations, "_LOOK_BYTES", 100_000)
        assert "Status" not in associated(here).send_c_store(large)
        assert here.batches(1)[0].image_count == 1
        wait_for(lambda: not list((here.settings.var / "spool").rglob("*.dcm")), "the object that was cut off is removed")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_while_the_database_is_away_objects_are_taken_and_become_a_batch_later(
    start: Any, engine: sa.Engine, tmp_path: Path, postgresql: services.PostgreSQL
) -> None:
    here = start()
    paths = write_files(tmp_path / "sent", 2)
    with postgresql.away(engine.url.database or ""):
        association = associated(here)
        assert [association.send_c_store(path).Status for path in paths] == [0, 0]
        identifier = pydicom.Dataset()
        identifier.QueryRetrieveLevel, identifier.PatientName = "STUDY", ""
        assert [status.Status for status, _ in association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind)] == [0xA700]
        association.release()
        wait_for(lambda: not here.listener._received, "the association has ended")
    engine.dispose()
    [folder] = imports.incoming_folder(here.settings).iterdir()
    assert len(list(folder.iterdir())) == 2
    os.utime(folder, (1, 1))
    imports.clear_left(here.importer)
    assert here.batches(1)[0].image_count == 2


@once
def test_every_storage_class_is_taken_and_private_ones_too(start: Any, tmp_path: Path) -> None:
    here = start()
    classes = [*(str(context.abstract_syntax) for context in AllStoragePresentationContexts), "1.2.826.0.1.3680043.9.9999.1"]
    assert len(classes) > 150
    dataset = pydicom.dcmread(write_files(tmp_path / "sent", 1)[0])
    for some in (classes[:100], classes[100:]):
        entity = AE("SCANNER")
        for one in some:
            entity.add_requested_context(one, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", here.listener.port, ae_title="DICOMWEB")
        assert len(association.accepted_contexts) == len(some)
        for one in some:
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = one
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = dicom_files.uid("instance", one)
            assert association.send_c_store(dataset).Status == 0, one
        association.release()
    assert [batch.image_count for batch in here.batches(2)] == [100, len(classes) - 100]


@once
def test_storescu_sends_every_transfer_syntax_it_can_propose(start: Any, pydicom_files: tuple[Path, ...]) -> None:
    here = start()
    names = {
        "-xe": "CT_small.dcm", "-xi": "rtplan.dcm", "-xb": "SC_rgb_expb.dcm", "-xd": "image_dfl.dcm", "-xr": "SC_rgb_rle.dcm", "-xy": "SC_rgb_jpeg_dcmtk.dcm",
        "-xs": "SC_rgb_jpeg_gdcm.dcm", "-xt": "MR_small_jpeg_ls_lossless.dcm", "-xv": "MR_small_jp2klossless.dcm", "-xw": "JPEG2000.dcm",
    }  # fmt: skip
    sent = {}
    for option, name in names.items():
        path = next((path for path in pydicom_files if path.name == name), None)
        if path is not None:
            done = dcmtk("storescu", option, "-aec", "DICOMWEB", "localhost", str(here.listener.port), path)
            assert done.returncode == 0, (option, done.stdout + done.stderr)
            ds = pydicom.dcmread(path)
            sent[option] = str(ds.file_meta.TransferSyntaxUID)
    assert len(set(sent.values())) == len(sent) >= 8
    here.batches(len(sent))
    images = rows(here.engine, sa.select(Image))
    stored = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(bytes_of(here.engine, here.settings, image)), stop_before_pixels=True) for image in images]
    assert sorted(ds.file_meta.TransferSyntaxUID for ds in stored) == sorted(sent.values())


def find(here: Installation, level: str, *keys: str) -> list[str]:
    """Run findscu and give what it printed of each answer."""
    arguments = [part for key in (f"QueryRetrieveLevel={level}", *keys) for part in ("-k", key)]
    answer = dcmtk("findscu", "-v", "-S", "-aec", "DICOMWEB", *arguments, "localhost", str(here.listener.port))
    assert answer.returncode == 0, answer.stderr
    return re.split(r"Find Response: \d+ \(Pending\)", answer.stdout + answer.stderr)[1:]


def store(here: Installation, *files: bytes) -> None:
    delivery = Delivery(here.importer.settings, "stow")
    for file in files:
        delivery.add([file])
    imports.announce(here.importer, delivery, "stored", source="stow")
    delivery.close()
    drain_everything(here.importer)


def test_studies_series_and_images_are_found_by_any_element(start: Any) -> None:
    here = start()
    study = dicom_files.uid("study", "found")
    store(
        here,
        dicom_files.image_bytes("a/1", StudyInstanceUID=study, PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 192", KVP="120", StudyDate="20200203"),
        dicom_files.image_bytes("a/2", StudyInstanceUID=study, PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 192", KVP="80", StudyDate="20200203"),
        dicom_files.image_bytes("b/1", PatientName="Other", StudyDate="20210101"),
    )
    [one] = find(here, "STUDY", "PatientName=M*", "StudyInstanceUID", "NumberOfStudyRelatedInstances", "PatientID", "ReferringPhysicianName")
    assert study in one
    assert "[2" in one
    assert "STUDY" in one
    assert len(find(here, "STUDY", "PatientName")) == 2
    assert len(find(here, "STUDY", "StudyDate=20200101-20201231", "StudyInstanceUID")) == 1
    assert len(find(here, "IMAGE", "KVP=80", "SOPInstanceUID")) == 1
    assert len(find(here, "IMAGE", f"StudyInstanceUID={study}", "SOPInstanceUID")) == 2
    assert len(find(here, "SERIES", "Modality=CT", "SeriesInstanceUID")) >= 2
    assert find(here, "STUDY", "PatientName=NOBODY") == []


def test_nested_and_private_elements_are_found(start: Any) -> None:
    here = start()
    item = pydicom.Dataset()
    item.ScheduledProcedureStepID = "STEP7"
    other = pydicom.Dataset()
    other.ScheduledProcedureStepID = "STEP8"
    private = dicom_files.image("p/1", RequestAttributesSequence=[item])
    private.private_block(0x0019, "ACME", create=True).add_new(0x02, "LO", "secret")
    # findscu knows no VR of a private element, and wants to be told its bytes.
    secret = "0019,1002=" + "\\".join(f"{byte:02x}" for byte in b"secret")
    store(here, dicom_files.file_bytes(private), dicom_files.image_bytes("p/2", RequestAttributesSequence=[other]))
    for level, key in (("STUDY", "StudyInstanceUID"), ("SERIES", "SeriesInstanceUID"), ("IMAGE", "SOPInstanceUID")):
        [one] = find(here, level, "RequestAttributesSequence[0].ScheduledProcedureStepID=STEP7", key)
        assert dicom_files.uid(key[: -len("InstanceUID")].lower().replace("sop", "instance"), "p/1") in one
        assert len(find(here, level, secret, key)) == 1
    assert "STEP7" in find(here, "SERIES", "RequestAttributesSequence[0].ScheduledProcedureStepID=STEP7", "SeriesInstanceUID")[0]


@once
def test_an_answer_has_what_was_asked_for_and_the_uids_and_nothing_else(start: Any) -> None:
    here = start()
    store(here, dicom_files.image_bytes("a/1", AccessionNumber="7"))
    entity = AE("SCANNER")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = entity.associate("127.0.0.1", here.listener.port, ae_title="DICOMWEB")

    def ask(**keys: Any) -> list[tuple[int, Any]]:
        identifier = pydicom.Dataset()
        for name, value in keys.items():
            setattr(identifier, name, value)
        return [(status.Status, found) for status, found in association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind)]

    item = pydicom.Dataset()
    item.CodeValue = ""
    found = ask(QueryRetrieveLevel="STUDY", AccessionNumber="", StudyComments="", ProcedureCodeSequence=[item])
    assert [status for status, _ in found] == [0xFF00, 0x0000]
    names = {element.keyword for element in found[0][1]}
    assert names == {
        "AccessionNumber", "StudyComments", "ProcedureCodeSequence", "StudyInstanceUID", "SpecificCharacterSet", "QueryRetrieveLevel",
        "RetrieveAETitle", "InstanceAvailability",
    }  # fmt: skip
    assert found[0][1].AccessionNumber == "7"
    assert [status for status, _ in ask(QueryRetrieveLevel="PATIENT", PatientID="")] == [0xA900]
    assert [status for status, _ in ask(PatientID="")] == [0xA900]
    assert [status for status, _ in ask(QueryRetrieveLevel="STUDY", StudyDate="no date")] == [0xA900]
    association.release()


@pytest.mark.slow
def test_objects_that_were_confirmed_survive_a_kill_of_the_listener(engine: sa.Engine, settings: Settings, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started: Program = program(settings, "dimse", "redis+socket:///nowhere", dimse__port=str(port))
    try:
        started.start()
        entity = AE("SCANNER")
        entity.requested_contexts = StoragePresentationContexts
        association = connected(entity, port)
        for path in write_files(tmp_path / "sent", 4):
            assert association.send_c_store(path).Status == 0
        started.kill()
        assert rows(engine, sa.select(Batch)) == []
        started.start()
        wait_for(lambda: rows(engine, sa.select(Batch)), "a batch is made of what a dead listener left")
        started.terminate()
    finally:
        started.stop()
    importer: Importer = importer_of(engine, settings)
    drain_everything(importer)
    [batch] = rows(engine, sa.select(Batch))
    assert (batch.source, batch.status, batch.image_count) == ("dimse", "DONE", 4)
    assert list(imports.incoming_folder(settings).iterdir()) == []
    check_consistency(engine, storage_of(settings))


def connected(entity: AE, port: int) -> Any:
    """Wait until the listener is there."""

    def is_there() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(is_there, "the listener accepts connections")
    association = entity.associate("127.0.0.1", port, ae_title="DICOMWEB")
    assert association.is_established
    return association


@once
def test_the_listener_says_why_it_does_not_start(settings: Settings) -> None:
    started = program(settings, "dimse", "redis+socket:///nowhere")
    started.start()
    assert started.process is not None
    assert started.process.wait(60) == 1
    assert "DICOMWEB_DIMSE_PORT" in started.log()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        started = program(settings, "dimse", "redis+socket:///nowhere", dimse__port=str(taken.getsockname()[1]))
        started.start()
        assert started.process is not None
        assert started.process.wait(60) == 1
        assert "cannot be listened on" in started.log()
