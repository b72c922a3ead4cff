"""The tables that queries read, as tables: SQLAlchemy compiles a statement over mapped classes in twice the time."""

from __future__ import annotations

from typing import cast

import sqlalchemy as sa

from dicomweb import models

field = cast(sa.Table, models.Field.__table__)
group_column = cast(sa.Table, models.GroupColumn.__table__)
group_header = cast(sa.Table, models.GroupHeader.__table__)
group_series = cast(sa.Table, models.GroupSeries.__table__)
header = cast(sa.Table, models.Header.__table__)
header_group = cast(sa.Table, models.HeaderGroup.__table__)
image = cast(sa.Table, models.Image.__table__)
promoted_number = cast(sa.Table, models.PromotedNumber.__table__)
