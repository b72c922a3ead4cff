from pathlib import Path

import pytest

from dicomweb.demo import drop_samples
from dicomweb.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    return Settings(environ={}, here=tmp_path)


def test_the_samples_arrive_as_one_complete_folder(settings: Settings) -> None:
    folder = drop_samples(settings)
    assert folder is not None
    assert [path.name for path in settings["watch.folders"][0].iterdir()] == [folder.name]
    assert (folder / ".done").exists()
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    assert "CT_small.dcm" in names
    assert len(names) > 150
    assert not [name for name in names if name.endswith((".py", ".md", ".txt", ".json"))]


def test_they_are_dropped_once(settings: Settings) -> None:
    assert drop_samples(settings)
    assert drop_samples(settings) is None


def test_what_an_interrupted_run_left_is_replaced(settings: Settings) -> None:
    left = settings["watch.folders"][0] / "pydicom-samples.tmp"
    left.mkdir()
    (left / "half").touch()
    folder = drop_samples(settings)
    assert folder is not None
    assert not (folder / "half").exists()
    assert not left.exists()
