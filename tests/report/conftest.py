"""The synthetic runs, and one report of them that all tests of the pages share."""

from pathlib import Path

import pytest

from harness.plugins import load_file


@pytest.fixture(scope="session")
def synthetic():
    return load_file(Path(__file__).with_name("fixtures.py"))


HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="session")
def folders(synthetic, tmp_path_factory):
    """Return runs/ and results/: three good runs, a hostile and partial one, a failed, an interrupted, a broken one."""
    base = tmp_path_factory.mktemp("report")
    runs = base / "runs"
    good = synthetic.write_runs(runs, 3)
    hostile = synthetic.write_run(runs, 3, run_id="hostile", method=f"=1+1{HOSTILE}</script>", flags=("partial",))
    hostile.update(run_id="../../escaped")
    synthetic.write_run(runs, 4, status="failed", run_id="failed-run")
    synthetic.write_run(runs, 5, status="interrupted", run_id="interrupted-run", pictures=False)
    broken = runs / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    for run in good[:2]:
        synthetic.publish(run, base / "results")
    return runs, base / "results"


@pytest.fixture(scope="session")
def swept(synthetic, tmp_path_factory):
    """Return the runs of a sweep: two seeds of a baseline, three epsilons that start from it, one cross-fitted."""
    runs = tmp_path_factory.mktemp("swept") / "runs"
    base = [synthetic.write_run(runs, 0, seed=seed, run_id=f"base-s{seed}").run_id for seed in (0, 1)]
    for i, epsilon in enumerate((0.01, 0.001, 0.1)):
        synthetic.write_run(
            runs, 1, seed=0, epsilon=epsilon, start_from=base[0], run_id=f"robust-{i}-s0", folds=5 * (i == 0)
        )
    synthetic.write_run(runs, 1, seed=1, epsilon=0.01, start_from=base[1], run_id="robust-0-s1")
    return runs


@pytest.fixture(scope="session")
def explained(synthetic, tmp_path_factory):
    """Return runs with adversarial explanations of two methods, one of them partial and hostile, and one run without."""
    runs = tmp_path_factory.mktemp("explained") / "runs"
    for i, method in enumerate(("baseline", "lipschitz")):
        run = synthetic.write_run(runs, i, method=method, seed=0, run_id=f"{method}-s0", pictures=False)
        synthetic.explain(run, i, (*synthetic.CLASSES[:2], HOSTILE) if i else synthetic.CLASSES)
    synthetic.write_run(runs, 2, seed=0, run_id="plain-s0", pictures=False)
    return runs


@pytest.fixture(scope="session")
def explained_site(explained, tmp_path_factory):
    """Return the folder of the report of those runs."""
    from harness.report.site import build

    return build(
        explained, None, tmp_path_factory.mktemp("explained-site") / "s", cache=False, resamples=10
    ).index.parent


@pytest.fixture(scope="session")
def trusted_runs(synthetic, tmp_path_factory):
    """Return runs whose explanations were put to the test: two seeds of one method, a hostile one, and one without."""
    runs = tmp_path_factory.mktemp("trusted") / "runs"
    for number, (method, seed) in enumerate((("baseline", 0), ("baseline", 1), (f"{HOSTILE}%{{x}}", 0), ("plain", 0))):
        run = synthetic.write_run(
            runs, number, method=method, seed=seed, run_id=f"trusted-{number}", pictures=False,
            tables={"classification": synthetic.classification(1.0)},
        )  # fmt: skip
        if method != "plain":
            synthetic.trust(run, number)
    return runs


@pytest.fixture(scope="session")
def trusted_site(trusted_runs, tmp_path_factory):
    """Return the folder of their report."""
    from harness.report.site import build

    folder = tmp_path_factory.mktemp("trusted-site") / "site"
    return build(trusted_runs, None, folder, cache=False, resamples=20).index.parent


@pytest.fixture(scope="session")
def swept_site(swept, tmp_path_factory):
    """Return the folder of the sweep's report."""
    from harness.report.site import build

    return build(swept, None, tmp_path_factory.mktemp("swept-site") / "site", cache=False, resamples=10).index.parent


@pytest.fixture(scope="session")
def attacked_runs(synthetic, tmp_path_factory):
    """Return runs that were attacked: on cifar10 two seeds of one method, a hostile and an invalid one; on
    chestxray14 one with findings."""
    runs = tmp_path_factory.mktemp("attacked") / "runs"
    facts = {goal: synthetic.FACTS for goal in ("adv", "btr")}
    for number, (method, seed) in enumerate((("baseline", 0), ("baseline", 1), (f"{HOSTILE}%{{x}}", 0), ("broken", 0))):
        synthetic.write_run(
            runs, number, method=method, seed=seed, run_id=f"attacked-{number}", pictures=False, dataset="cifar10",
            tables={"robustness": synthetic.attacked(0.004 * (1 + number), number)},
            facts=None if number == 2 else facts, flags=("random output",) if method == "broken" else ("loaded",),
        )  # fmt: skip
    synthetic.write_run(
        runs, 4, run_id="findings", pictures=False,
        tables={"classification": synthetic.classification(1.0), "robustness": synthetic.attacked_findings(0.003)},
    )  # fmt: skip
    return runs


@pytest.fixture(scope="session")
def attacked_site(attacked_runs, tmp_path_factory):
    """Return the folder of their report."""
    from harness.report.site import build

    folder = tmp_path_factory.mktemp("attacked-site") / "site"
    return build(attacked_runs, None, folder, cache=False, resamples=20).index.parent


@pytest.fixture(scope="session")
def site(folders, tmp_path_factory):
    """Return the summary of a built report."""
    from harness.report.site import build

    return build(*folders, tmp_path_factory.mktemp("site") / "deep" / "site", cache=False, resamples=60)


class Watched:
    """Chromium's pages, and what they asked for and complained about."""

    def __init__(self, context):
        self.context = context
        self.requests: list[str] = []
        self.complaints: list[str] = []
        context.on("request", lambda r: self.requests.append(r.url))
        context.on("console", lambda m: m.type in ("error", "warning") and self.complaints.append(m.text))
        context.on("weberror", lambda e: self.complaints.append(str(e.error)))
        context.on("dialog", lambda d: (self.complaints.append("dialog"), d.dismiss()))

    def open(self, address, **size):
        page = self.context.new_page()
        if size:
            page.set_viewport_size(size)
        page.goto(address)
        return page

    def quiet(self):
        """Whether nothing but files was asked for and nothing complained; forgets both."""
        loud = [u for u in self.requests if not u.startswith(("file://", "blob:", "data:"))] + self.complaints
        self.requests.clear()
        self.complaints.clear()
        return loud == [] or loud


@pytest.fixture(scope="module")
def watched():
    """Return a browser that is offline but for files."""
    import shutil

    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on the PATH")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        started = playwright.chromium.launch(executable_path=found, args=arguments)
        yield Watched(started.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True))
        started.close()
