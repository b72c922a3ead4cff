"""Small DICOM files for tests, valid and broken, written by pydicom.

Every UID comes from the counter below or from ``seed``: the same call order, or the same seed, gives the same bytes.
"""

import hashlib
import io
import itertools
import struct
import tempfile
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.10.1447"
_counter = itertools.count(1)


def uid(name: str, seed: object = None) -> str:
    """Return a UID that depends on ``name`` and ``seed`` alone, or on the next number of the counter without a seed."""
    text = f"{name}/{next(_counter) if seed is None else seed}"
    return f"{ROOT}.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:10], 'big')}"


def image(seed: object = None, **keywords: Any) -> Dataset:
    """Return a valid CT image of 16 x 16 pixels; a keyword replaces an element, None deletes it."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = uid("instance", seed)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240131"
    ds.StudyTime = "101500"
    ds.AcquisitionTime = ds.ContentTime = "101501.250000"
    ds.AccessionNumber = "A0001"
    ds.Modality = "CT"
    ds.Manufacturer = "Example"
    ds.ReferringPhysicianName = "Doctor^Some"
    ds.StudyDescription = "Thorax"
    ds.SeriesDescription = "Thorax 1.0 B60f"
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = uid("reference", 1)
    ds.ReferencedImageSequence = Sequence([reference])
    ds.PatientName = "Müller^Jürgen"
    ds.PatientID = "P0001"
    ds.PatientBirthDate = "19600229"
    ds.PatientSex = "M"
    ds.PatientAge = "063Y"
    block = ds.private_block(0x0019, "EXAMPLE PRIVATE 1.0", create=True)
    block.add_new(0x02, "LO", "private text")
    block.add_new(0x03, "DS", "12.5")
    ds.SliceThickness = "1.25"
    ds.KVP = "120"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = uid("study", seed)
    ds.SeriesInstanceUID = uid("series", seed)
    ds.StudyID = "1"
    ds.SeriesNumber = "2"
    ds.InstanceNumber = "1"
    ds.ImagePositionPatient = ["-10", "-20", "0"]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.FrameOfReferenceUID = uid("frame of reference", seed)
    ds.SliceLocation = "0"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 16
    ds.PixelSpacing = ["0.5", "0.5"]
    ds.BitsAllocated = 16
    ds.BitsStored = 12
    ds.HighBit = 11
    ds.PixelRepresentation = 0
    ds.WindowCenter = "40"
    ds.WindowWidth = "400"
    ds.RescaleIntercept = "-1024"
    ds.RescaleSlope = "1"
    ds.PixelData = struct.pack("<256H", *(value * 16 for value in range(256)))
    ds["PixelData"].VR = "OW"
    for keyword, value in keywords.items():
        if value is None:
            if keyword in ds:
                delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def file_bytes(ds: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return ``ds`` as a DICOM file with preamble and file meta information."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CTImageStorage)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", uid("instance", "none"))
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.file_meta.ImplementationClassUID = f"{ROOT}.1"
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def image_bytes(seed: object = None, transfer_syntax: str = ExplicitVRLittleEndian, **keywords: Any) -> bytes:
    """Return the file of a valid small CT image; a keyword replaces an element, None deletes it."""
    return file_bytes(image(seed, **keywords), transfer_syntax)


def write_series(folder: Path, images: int = 5, seed: object = None, **keywords: Any) -> list[Path]:
    """Write one series of ``images`` slices, 1.25 mm apart, into ``folder``; return the files in order."""
    folder.mkdir(parents=True, exist_ok=True)
    seed = next(_counter) if seed is None else seed
    same = {
        "StudyInstanceUID": uid("study", seed),
        "SeriesInstanceUID": uid("series", seed),
        "FrameOfReferenceUID": uid("frame of reference", seed),
    }
    paths = []
    for index in range(images):
        location = f"{index * 1.25:g}"
        own = {
            "InstanceNumber": str(index + 1),
            "SliceLocation": location,
            "ImagePositionPatient": ["-10", "-20", location],
        }
        path = folder / f"IM{index + 1:05d}.dcm"
        path.write_bytes(image_bytes(f"{seed}/{index}", **(same | own | keywords)))
        paths.append(path)
    return paths


def truncated_bytes(keep: float = 0.9, seed: object = None, **keywords: Any) -> bytes:
    """Return the first part of an image's file, by default cut inside its pixel data."""
    whole = image_bytes(seed, **keywords)
    return whole[: int(len(whole) * keep)]


def dicomdir_bytes(seed: object = None) -> bytes:
    """Return a DICOMDIR with one patient, study, series and image, as pydicom writes it."""
    file_set = FileSet()
    file_set.UID = uid("file-set", seed)
    file_set.ID = "EXAMPLE"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.dcm"
        path.write_bytes(image_bytes(seed))
        file_set.add(path)
        file_set.write(Path(folder) / "set")
        # FileSet leaves its own temporary folder to the garbage collector, which warns.
        file_set._stage["t"].cleanup()
        return (Path(folder) / "set" / "DICOMDIR").read_bytes()


def deeply_nested_bytes(depth: int, seed: object = None) -> bytes:
    """Return an image with ``depth`` sequences one in the other, of defined length, in implicit VR."""
    content = b""
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
        content = struct.pack("<HHI", 0x0040, 0xA730, len(item)) + item
    return image_bytes(seed, ImplicitVRLittleEndian, PixelData=None, Rows=None) + content
