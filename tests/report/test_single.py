"""The report in one file: every link of it leads to a page of it, in Chromium, and nothing is asked of anybody."""

import re
from urllib.parse import quote

import pytest

from harness.errors import UsageError
from harness.pages import write
from harness.report.single import bundle, literal
from harness.report.site import make_environment, templates_folder


@pytest.fixture(scope="module")
def single(site, tmp_path_factory):
    """Return the shared report as one file, and its size as it was said."""
    out = tmp_path_factory.mktemp("single") / "one.html"
    return out, pack(site.index.parent, out)


def pack(folder, out):
    templates = templates_folder()
    return bundle(folder, make_environment(templates / "templates"), templates / "assets" / "single.js", out)


@pytest.mark.slow
@pytest.mark.browser
def test_every_link_of_every_page_works(single, site, watched):
    out, _ = single
    start = out.as_uri()
    page = watched.open(start)
    todo, seen, unread = [start], set(), []
    ids, places = {}, set()  # of each page; (page, id) of links to a place in one
    while todo:
        address = todo.pop()
        if address in seen:
            continue
        seen.add(address)
        page.goto(address)
        assert page.locator("h1").count() == 1, address
        assert page.locator("nav a[aria-current=page]").count() <= 1
        name = address.partition("?")[2].partition("#")[0] or "index.html"
        there = (site.index.parent / name).read_text()
        assert page.title() == re.search(r"<title>(.*?)</title>", there)[1].replace("&lt;", "<").replace(
            "&#34;", '"').replace("&gt;", ">"), address  # fmt: skip
        unread += page.evaluate("""() => [...document.querySelectorAll('img')].filter(i => i.src.startsWith('file:')
            || (i.complete && !i.naturalWidth && i.loading !== 'lazy')).map(i => i.src.slice(0, 200))""")
        ids[address.partition("#")[0]] = set(page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)"))
        for link in page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.href)"):
            assert link.startswith(start), (link, address)
            target, _, place = link.partition("#")
            if place and "=" not in place:
                places.add((target, place))
            todo.append(link if "=" in place else target)
    assert len(places) > 20
    assert [(target, place) for target, place in places if place not in ids[target]] == []
    names = {s.partition("?")[2].partition("#")[0] for s in seen if "?" in s}
    assert names == {p.relative_to(site.index.parent).as_posix() for p in site.index.parent.rglob("*.html")}
    assert unread == []
    assert {u.partition("?")[0].partition("#")[0] for u in watched.requests if u.startswith("file")} == {start}
    assert watched.quiet() is True
    page.close()


@pytest.mark.browser
def test_a_view_can_be_sent_to_somebody_and_back_goes_back(single, watched):
    out, _ = single
    a, b = "baseline-chestxray14-s0-000000000000", "robust_fgsm-chestxray14-s0-000000000001"
    page = watched.open(f"{out.as_uri()}?versus.html#a={quote(a)}&b={quote(b)}")
    page.wait_for_function("document.body.dataset.shown")
    assert page.locator("#page-a").inner_text() == a
    assert "compared" in page.locator("#said").inner_text()
    assert page.locator("#chart .main-svg").count() > 0
    assert page.locator("#samples img").first.get_attribute("src").startswith("data:image/png")
    page.locator("#swap").click()
    page.wait_for_function(f"document.body.dataset.shown === '{b} {a}'")
    assert page.evaluate("location.href").startswith(f"{out.as_uri()}?versus.html#a={b}")
    page.locator("#page-a").click()
    page.wait_for_selector("h1.run")
    assert page.locator("h1").inner_text() == b
    page.go_back()
    page.wait_for_function(f"document.body.dataset.shown === '{b} {a}'")
    page.get_by_role("link", name="Leaderboard").click()
    page.locator("#filter").fill("fgsm")
    again = watched.open(page.evaluate("location.href"))
    assert again.locator("#filter").input_value() == "fgsm"
    assert watched.quiet() is True
    again.close()
    page.close()


@pytest.mark.browser
def test_an_unknown_page_is_the_first_one(single, watched):
    page = watched.open(f"{single[0].as_uri()}?../../etc/passwd")
    assert page.locator("h1").inner_text() == "Leaderboard"
    page.close()
    assert watched.quiet() is True


def test_the_same_folder_gives_the_same_bytes(single, site, tmp_path):
    out, size = single
    assert pack(site.index.parent, tmp_path / "two.html") == size == out.stat().st_size
    assert (tmp_path / "two.html").read_bytes() == out.read_bytes()


def test_what_a_record_says_ends_no_script(single):
    text = single[0].read_text()
    assert "<img src=x" not in text
    assert text.count("</script") == text.count("<script")
    assert literal("</script><!--&") == '"\\u003c/script\\u003e\\u003c!--\\u0026"'


def test_a_folder_is_no_file(tmp_path):
    for wrong in (tmp_path, tmp_path / "site"):
        with pytest.raises(UsageError, match=r"ends in \.html"):
            write(tmp_path / "runs", tmp_path / "results", wrong, tmp_path / "l.md", single_file=True)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_how_large_the_file_is(folders, tmp_path):
    from click.testing import CliRunner

    from harness.cli import main

    out = tmp_path / "one.html"
    arguments = ["report", "--runs-dir", str(tmp_path / "none"), "--results", str(folders[1]), "--single-file"]
    done = CliRunner().invoke(main, [*arguments, "--out", str(out), "--leaderboard", str(tmp_path / "l.md")])
    assert done.exit_code == 0, done.output
    assert f"{out}   (0 runs, 2 records; one file of {out.stat().st_size / 1e6:.1f} MB)" in done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["l.md", "one.html"]
