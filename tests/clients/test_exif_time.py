"""`pk-put file -exiftime`: pictures get the time at which they were taken as their mtime."""

import base64
import json
import os
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from peatkeep.clients.files import FileOptions
from peatkeep.clients.local import local_zone
from peatkeep.schema.parse import parse
from peatkeep.schema.times import parse_time

from .stores import Target, put

VECTORS = Path(__file__).parents[1] / "vectors/schema/uploads.json"
CASES = json.loads(VECTORS.read_text())["exifTime"]


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['name']}-{case['tz']}")
def test_the_mtime_is_that_of_the_picture(case: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(base64.b64decode(case["data_b64"]))
    mtime_ns = parse_time(case["fileMtime"])
    os.utime(path, ns=(mtime_ns, mtime_ns))
    target = Target()
    ref = put(target, path, options=FileOptions(exif_zone=ZoneInfo(case["tz"])))
    assert ref is not None
    schema = parse(target.memory.fetch(ref))
    assert schema is not None
    assert schema.string("unixMtime") == case["unixMtime"]


def test_the_zone_of_this_machine_is_what_tz_says() -> None:
    assert local_zone("Europe/Zurich") == ZoneInfo("Europe/Zurich")
    assert local_zone(":UTC") == ZoneInfo("UTC")


def test_a_zone_that_is_none_is_no_failure() -> None:
    assert local_zone("Nowhere/Land") == UTC
