"""Results as they are read: rows of an older schema are brought to the present one."""

import json
import shutil

from harness.columns import column_key
from harness.record import from_record, from_run
from harness.rows import SCHEMA_VERSION
from harness.store import find_run


def test_version_1_takes_the_explainer_s_settings_from_its_stage(tiny_runs, tmp_path):
    runs_dir, results = tiny_runs
    from harness.publish import publish

    path = publish(results[0].run_id, runs_dir, tmp_path, allow_dirty=True)
    content = json.loads(path.read_text())
    stage = next(s for s in content["stages"] if s["info"]["explainer"] == "cam")
    setting = {"component": "explainer cam", "name": "upsampled", "value": True, "default": False, "set_by": "--set"}
    other = {**setting, "component": "evaluation localisation", "name": "folds"}
    left = {**setting, "name": "left", "set_by": "default"}
    stage["info"]["settings"] += [setting, other, left]
    for row in stage["rows"]:
        del row["explainer_settings"]
        row["schema_version"] = 1
    path.write_text(json.dumps(content))
    rows = next(s.rows for s in from_record(path).stages if s.name == stage["name"])
    assert {r.explainer_settings for r in rows} == {"upsampled=True"}
    assert {r.schema_version for r in rows} == {SCHEMA_VERSION}
    assert column_key(rows[0]).map == "cam (upsampled=True)"


def test_a_run_of_an_older_harness_is_brought_up_as_well(tiny_runs, tmp_path):
    runs_dir, results = tiny_runs
    folder = shutil.copytree(runs_dir / results[0].run_id, tmp_path / results[0].run_id)
    place = next((folder / "evaluations").glob("localisation-cam-*"))
    rows = json.loads((place / "rows.json").read_text())
    for row in rows:
        del row["explainer_settings"]
        row["schema_version"] = 1
    (place / "rows.json").write_text(json.dumps(rows))
    again = next(s.rows for s in from_run(find_run(tmp_path, folder.name)).stages if s.name == place.name)
    assert {r.schema_version for r in again} == {SCHEMA_VERSION}
