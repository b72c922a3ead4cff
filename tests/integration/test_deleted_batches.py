"""A deleted batch stays deleted although its folder still lies in the watched folder."""

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from dicomweb import batches
from dicomweb.db import work
from dicomweb.models import Batch
from dicomweb.settings import Settings
from tests.dicom_files import write_series
from tests.importing import claim_folder, drain_everything, importer_of

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_the_arrival_of_a_deleted_batch_is_not_claimed_again(
    engine: sa.Engine, settings: Settings, tmp_path: Path
) -> None:
    write_series(tmp_path / "knee", images=2)
    batch = claim_folder(engine, tmp_path / "knee", stamp="sentinel 1")
    importer = importer_of(engine, settings)
    drain_everything(importer)
    with work(engine) as dbsession:
        assert batches.delete(dbsession, dbsession.get_one(Batch, batch.id), now=NOW)
    drain_everything(importer)
    with work(engine) as dbsession:
        assert dbsession.get(Batch, batch.id) is None
        assert batches.claimed_stamps(dbsession, [str(tmp_path / "knee")]) == {str(tmp_path / "knee"): {"sentinel 1"}}
        assert batches.claim_arrival(dbsession, str(tmp_path / "knee"), stamp="sentinel 1", now=NOW) is None
        again = batches.claim_arrival(dbsession, str(tmp_path / "knee"), stamp="sentinel 2", now=NOW)
        assert again is not None
        assert again.name == "knee"
