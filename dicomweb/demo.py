"""The demonstration: pydicom's own sample images, dropped like a person would drop a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom

from dicomweb.settings import Settings

NAME = "pydicom-samples"


def drop_samples(settings: Settings) -> Path | None:
    """Copy the images that pydicom ships into the first watched folder; None when they have been dropped before.

    Some of them are broken on purpose, so the batch also shows what failed files look like.
    """
    target: Path = settings["watch.folders"][0] / NAME
    if target.exists():
        return None
    # Built under a name that is ignored, then complete in one step.
    building = target.with_name(f"{NAME}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    source = Path(pydicom.__file__).parent / "data"
    # Without the sub-folders' guides and converters: only what is an image or claims to be one.
    not_images = shutil.ignore_patterns("*.txt", "*.md", "*.py", "*.json", "*.dump", "*.gz", "*.icc", "__pycache__")
    for folder in ("test_files", "charset_files", "palettes"):
        shutil.copytree(source / folder, building / folder, ignore=not_images)
    (building / settings["watch.sentinel"]).touch()
    return building.rename(target)
