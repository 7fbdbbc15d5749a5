import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from harness.errors import UsageError
from harness.report.site import FIGURES, build


class Links(HTMLParser):
    """The addresses a page loads or links to, its element ids, and its scripts."""

    def __init__(self, page: Path):
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("href", "src", "data-heat", "data-overlay"):
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)
            if name.startswith("on"):
                self.handlers.append(name)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_link_leads_to_a_file_of_the_report(site):
    pages = sorted(site.index.parent.rglob("*.html"))
    roots = {"index", "about", "methods", "datasets", "explainers", "robustness", "versus"}
    assert {p.stem for p in pages if p.parent == site.index.parent} == roots
    methods = {"baseline", "robust_fgsm", "gradient_penalty", "hostile"}  # and one dataset
    assert len(pages) == len(roots) + 6 + len(FIGURES) + len(methods) + 1
    for page in pages:
        found = Links(page)
        assert len(found.ids) == len(set(found.ids))
        for address in found.addresses:
            parts = urlsplit(address)
            assert not parts.scheme
            assert not parts.netloc
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.is_file(), address
            assert target.is_relative_to(site.index.parent.resolve())
            if parts.fragment.startswith("a="):  # two runs of the comparison
                assert unquote(parts.fragment.removeprefix("a=").partition("&")[0]) in target.read_text()
            elif parts.fragment.startswith("board="):  # a view of the leaderboard, not a place on it
                title = unquote(parts.fragment.removeprefix("board="))
                assert f'<option value="board-1">{title}</option>' in target.read_text()
            elif parts.fragment and target.suffix == ".html":
                assert parts.fragment in Links(target).ids


def test_hostile_names_are_text_and_write_nowhere_else(site, folders):
    for page in site.index.parent.rglob("*.html"):
        found = Links(page)
        assert found.handlers == []
        text = page.read_text()
        assert "<img src=x" not in text
        for script in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S):
            assert "<" not in script
    text = site.index.read_text()
    assert "&lt;img src=x onerror=" in text
    assert "../../escaped" in text
    assert not list(site.index.parent.parent.parent.glob("escaped*"))
    assert {p.name for p in site.index.parent.parent.iterdir()} == {"site"}
    assert (site.index.parent / "runs" / "escaped-1bc67b8d.html").exists() or list(
        (site.index.parent / "runs").glob("escaped-*.html")
    )


def test_the_summary_counts_and_names_what_could_not_be_read(site):
    assert (site.runs, site.records) == (6, 0)
    assert len(site.unreadable) == 1
    assert "broken" in site.unreadable[0]
    assert "broken" in (site.index.parent / "about.html").read_text()


def test_the_index_shows_ranks_reasons_references_and_unfinished_runs(site):
    text = site.index.read_text()
    assert "rank group" in text
    assert "sampling noise only" in text
    assert "mean of 3 of 4 classes, without Hernia" in text
    assert "not in the version of harness that made the run" in text
    assert "No explainer below the best of them is worth reading" in text
    assert "the loss is not a number at epoch 2" in text
    assert "harness run --method robust_fgsm --dataset chestxray14" in text
    lines, _, references = text.partition('<tbody class="references">')
    assert "failed-run" not in lines
    assert "random_map" in references.partition("</tbody>")[0]
    row = next(r for r in lines.split("<tr>") if "=1+1" in r)  # the partial one: shown, not ranked
    assert "rank group" not in row
    assert 'class="v">0.' in row


def test_without_scripts_every_board_is_a_whole_table_with_published_rows(swept_site):
    text = (swept_site / "index.html").read_text()
    (table,) = re.findall("<noscript>(.*?)</noscript>", text, re.S)
    assert table.count('<tr><th scope="row" class="name">') > 5
    assert (
        '<a href="runs/base-s0.html" title="base-s0">0</a>, <a href="runs/base-s1.html" title="base-s1">1</a>' in table
    )
    assert "Published by others, under other conditions: never ranked" in table
    assert "Wang 2017 ResNet-50 (NIH) [1]" in table
    assert "0.745" in table
    assert "cannot tell apart" in table
    assert re.search(r'<li value="1">Wang 2017, arXiv 1705.02315v5.*Split: official test', text)


def test_a_run_page_holds_its_numbers(site):
    text = (site.index.parent / "runs" / "baseline-chestxray14-s0-000000000000.html").read_text()
    for part in ("2 positives, fewer than 20", "Khakzar 2019, 3.4", "weights_<wbr>sha256", '"dash":"dash"', 'viewBox="0 0 100 100"',
                 '<rect x="20.0" y="25.0" width="30.0" height="45.0"/>', "0 backward, 1 forward"):  # fmt: skip
        assert part in text, part


def test_a_figure_says_where_its_published_numbers_are_from(swept_site):
    (path,) = (swept_site / "figures").glob("*-localisation.html")
    text = path.read_text()
    for part in ("Wang 2017, arXiv 1705.02315v5, Table 7. Split: 984 boxes / 880 images. Protocol: boxes drawn around the regions",
                 "published, another protocol",
                 '<span class="badge note">seen</span>', "0.689"):  # fmt: skip
        assert part in text, part
    (path,) = (swept_site / "figures").glob("*-classes.html")
    text = path.read_text()
    assert "seen-secondary" in text
    assert "Split: official test (25,596)" in text
    assert "rank" not in text.replace("never ranked", "")


def test_left_out_runs_are_named_in_the_figures(site):
    (path,) = (site.index.parent / "figures").glob("*-classes.html")
    assert "Not in this figure: ../../escaped (partial, or with a fault)." in path.read_text()


def test_figures_of_a_board_that_is_gone_go(synthetic, tmp_path):
    tables = {"classification": synthetic.classification(1.0)}
    gone = synthetic.write_run(tmp_path / "runs", 0, tables=tables)
    build(tmp_path / "runs", None, tmp_path / "out", cache=False, resamples=10)
    assert len(list((tmp_path / "out" / "figures").glob("*.html"))) == len(FIGURES)
    (gone.folder / "run.json").unlink()
    build(tmp_path / "runs", None, tmp_path / "out", cache=False, resamples=10)
    assert list((tmp_path / "out" / "figures").glob("*.html")) == []


def test_the_same_input_gives_the_same_bytes_and_old_pages_go(synthetic, tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "out"
    tables = {"classification": synthetic.classification(1.0)}
    kept = synthetic.write_run(runs, 0, tables=tables, run_id="kept")
    build(runs, None, out, cache=False, resamples=20)
    first = content(out)
    gone = synthetic.write_run(runs, 1, tables=tables, run_id="gone")
    build(runs, None, out, cache=False, resamples=20)
    assert (out / "runs" / "gone.html").exists()
    (gone.folder / "run.json").unlink()
    build(runs, None, out, cache=False, resamples=20)
    assert content(out) == first
    assert kept.run_id in first["index.html"].decode()


def test_records_alone_make_the_same_board_without_pictures(folders, tmp_path):
    summary = build(None, folders[1], tmp_path / "site", cache=False, resamples=20)
    assert (summary.runs, summary.records, summary.unreadable) == (0, 2, [])
    pages = "".join(p.read_text() for p in (tmp_path / "site").glob("*/*.html"))
    assert 'class="picture"' not in pages
    assert "published records hold numbers, never images" in pages


def test_nothing_yet(tmp_path):
    summary = build(tmp_path / "runs", tmp_path / "results", tmp_path / "site", cache=False)
    assert "No finished run yet" in summary.index.read_text()
    assert not (tmp_path / "site" / "assets" / "plotly.min.js").exists()


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="expected an empty folder or one that harness report made"):
        build(None, None, tmp_path, cache=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_pictures_come_from_the_gallery_only(synthetic, tmp_path):
    run = synthetic.write_run(tmp_path / "runs", 0, tables={"cam": synthetic.localisation(0.4)})
    (tmp_path / "secret.png").write_bytes(b"secret")
    stage = run.stages()[0].folder / "gallery"
    (stage / "link.png").symlink_to(tmp_path / "secret.png")
    from harness.store import read_json, write_json

    entries = read_json(stage / "gallery.json")
    entries[0]["overlay"], entries[1]["overlay"] = "../../../../../secret.png", "link.png"
    entries[2]["boxes"] = [["<b>", 0, 1, 1], [0, 0, 2, 2]]
    write_json(stage / "gallery.json", entries)
    summary = build(tmp_path / "runs", None, tmp_path / "site", cache=False, resamples=20)
    assert len(summary.unreadable) == 2
    assert b"secret" not in content(tmp_path / "site").values()


def test_reports_need_no_torch(folders, tmp_path):
    code = f"""
import sys
sys.modules["torch"] = sys.modules["torchvision"] = sys.modules["captum"] = None
from pathlib import Path
from harness.report.markdown import leaderboard
from harness.report.site import build
build(None, Path({str(folders[1])!r}), Path({str(tmp_path / "site")!r}), cache=False, resamples=10)
leaderboard(Path({str(folders[1])!r}), resamples=10)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
