"""Results as they are read: rows of an older schema are brought to the present one."""

import json

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
    assert {s.info["explainer"] for s in from_run(find_run(runs_dir, results[0].run_id)).stages} > {"cam"}
