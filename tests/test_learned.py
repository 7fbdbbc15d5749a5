"""It has learned, and shows it: a short training on the phantom beats chance, and learns nothing from shuffled labels."""

import pytest

from harness.console import Reporter
from harness.plan import RunSpec
from harness.rows import Row
from harness.run import execute
from harness.stats import paired

QUIET = Reporter(quiet=True)
SMALL = (
    "phantom.size=64",
    "n_train=1000",
    "n_validation=50",
    "n_test=400",
    "max_epochs=3",
    "localisation.resamples=200",
)

SHUFFLED = '''
import dataclasses
from harness.api import dataset, rng_for
from harness.plugins import catalogue

Phantom = catalogue().load("dataset", "phantom")

@dataset("shuffled", source="test")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Shuffled(Phantom):
    """The phantom with the labels of its training and validation images shuffled."""

    def index(self, root):
        index = super().index(root)
        labels = index.labels.copy()
        for split in ("train", "validation"):
            rows = index.of_split(split)
            labels[rows] = labels[rng_for(0, split).permutation(rows)]
        keep = index.boxes["id"].isin(index.samples["id"][index.of_split("test")])
        return dataclasses.replace(index, labels=labels, boxes=index.boxes[keep].reset_index(drop=True))
'''


def one(rows: list[Row], **match) -> Row:
    (row,) = [r for r in rows if all(getattr(r, k) == v for k, v in match.items())]
    return row


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    spec = RunSpec(method="baseline", dataset="phantom", sets=SMALL, device="cpu", explainers=("cam",),
                   evaluations=("classification", "localisation"), runs_dir=tmp_path_factory.mktemp("learned"))  # fmt: skip
    (result,) = execute(spec, QUIET)
    return result


@pytest.mark.slow
def test_it_tells_findings_apart(trained):
    macro = one(trained.rows, metric="auroc", class_name="macro")
    assert macro.low > 0.6, macro


@pytest.mark.slow
def test_cam_beats_the_best_reference_row(trained):
    from harness.metrics.localisation import localisation_accuracy
    from harness.metrics.localisation_table import LocalisationTable

    tables = {
        s.info["explainer"]: LocalisationTable.from_frame(s.read_samples())
        for s in trained.stages
        if s.info["evaluation"] == "localisation"
    }
    cells = tables["cam"].cells(localisation_accuracy)
    at = next(i for i, c in enumerate(cells) if (c["variant"], c["threshold"], c["class_name"]) == ("", 0.3, "macro"))
    match = {"metric": "localisation_accuracy", "threshold": 0.3, "class_name": "macro", "variant": ""}
    references = {e: one(trained.rows, explainer=e, **match).value for e in tables if e != "cam"}
    best = max(references, key=lambda e: references[e])
    difference, p = paired(localisation_accuracy, tables["cam"], tables[best], tables["cam"].clusters, resamples=200)
    assert difference[at].low > 0, (references, float(difference.value[at]))
    assert p[at] < 0.001


@pytest.mark.slow
def test_shuffled_labels_teach_nothing(tmp_path):
    plugin = tmp_path / "shuffled.py"
    plugin.write_text(SHUFFLED)
    sets = tuple(s.replace("phantom.", "shuffled.") for s in SMALL if not s.startswith("localisation"))
    spec = RunSpec(method="baseline", dataset="shuffled", sets=sets, device="cpu", evaluations=("classification",),
                   plugins=(str(plugin),), runs_dir=tmp_path / "runs")  # fmt: skip
    (result,) = execute(spec, QUIET)
    macro = one(result.rows, metric="auroc", class_name="macro")
    assert macro.low < 0.5 < macro.high, macro
