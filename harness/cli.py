"""The command line. A command parses its options, makes one library call, and prints.

stdout carries the result, stderr progress and logs. Modules that need torch are imported by the command that
needs them, so that `harness --help` answers at once.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from harness import __version__
from harness.errors import HarnessError, UsageError
from harness.visible import visible

PATH = click.Path(path_type=Path)
LISTS = ("methods", "datasets", "models", "explainers", "metrics", "attacks", "scores", "evaluations", "zoo", "runs")

plugin_option = click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(), metavar="FILE_OR_DIR", help="Also load this plug-in."
)
runs_dir_option = click.option(
    "--runs-dir", type=PATH, default=Path("runs"), show_default=True, help="Folder of the runs."
)
root_option = click.option("--root", type=PATH, help="The dataset's own folder, or its parent.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


class Harness(click.Group):
    """The group, with one wrapper that turns our errors into messages and exit states."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; harness errors print one message and leave with their own status."""
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            click.echo(f"Error: {visible(str(error))}", err=True)
            ctx.exit(error.exit_status)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. Finished work is kept: the same command goes on where it was.", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            sys.stderr.close()
            ctx.exit(141)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find a command; name the closest ones where there is none."""
        from harness.errors import unknown

        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


@click.group(cls=Harness, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """One benchmark for image classifiers that must be accurate, robust and explainable at once."""
    signal.signal(signal.SIGTERM, _terminate)


def _one_speaks() -> None:
    """Silence this process where torchrun has started several of them and another one leads (harness/together.py)."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the one that leads says, once, where another is gone
        if os.environ.get("RANK") != "0":
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt


def _spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--explainer", "explainers", multiple=True, help="Explainer; may be repeated."),
        click.option("--evaluation", "evaluations", multiple=True, help="Evaluation; may be repeated."),
        click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE",
                     help="Replace a setting: field=value, or name.field=value. A bare field of a method is the named "
                          "one's, not that of the method it starts from."),
        root_option,
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:i]."),
        click.option("--profile", type=click.Choice(["quick", "paper"]), default="quick", show_default=True,
                     help="Named set of evaluation sizes."),
        click.option("--batch-size", default="auto", show_default=True, metavar="auto|N",
                     help="Images scored at once; changes memory, not results."),
        click.option("--limit", type=int, metavar="N", help="Score only N samples; rows are marked partial."),
        runs_dir_option,
        plugin_option,
        json_option,
    ]  # fmt: skip
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


@main.command()
@click.option(
    "--method",
    required=True,
    help="Training method (`harness list methods`), or a network trained elsewhere: zoo:... (`harness list zoo`).",
)
@click.option("--dataset", required=True, help="Dataset; `harness list datasets` shows all.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0,), show_default=True, help="May be repeated.")
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="FIELD=V1,V2,...",
    help="A run for each value of a (single) setting; repeated, for each combination.",
)
@click.option("--model", help="Architecture instead of the method's or the dataset's default.")
@click.option("--checkpoint", type=PATH, help="Load these weights instead of training.")
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "fp32", "bf16"]),
    help="Number format of training (auto: bf16 on a GPU); everything is measured in fp32.",
)
@click.option("--existing", type=click.Choice(["reuse", "redo"]), default="reuse", show_default=True,
              help="What to do with a run that is there already.")  # fmt: skip
@click.option("--config", type=PATH, help="TOML file with a [set] table of settings; --set wins.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, with every setting, and stop.")
@_spec_options
def run(
    seeds: tuple[int, ...], sweeps: tuple[str, ...], config: Path | None, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Train or load a method on a dataset, explain it, score it, store it.

    A second call with the same options finishes what is missing and repeats nothing.
    """
    _one_speaks()
    from harness import commands

    results = commands.run(_clean(options), seeds=seeds, sweeps=sweeps, config=config, dry_run=dry_run, quiet=as_json)
    click.echo(results.json() if as_json else results.text())


@main.command()
@click.argument("run_id", metavar="RUN")
@_spec_options
def evaluate(run_id: str, runs_dir: Path, as_json: bool, **options: Any) -> None:
    """Add evaluations to an existing run, without training."""
    from harness import commands

    results = commands.evaluate(run_id, _clean(options), runs_dir, quiet=as_json)
    click.echo(results.json() if as_json else results.text())


@main.command()
@click.argument("run_id", metavar="RUN")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=PATH)
@click.option("--explainer", "explainers", multiple=True, required=True, help="Explainer; may be repeated.")
@click.option("--target", "targets", multiple=True, metavar="CLASS",
              help="Class to explain; may be repeated. Default: each image's most probable one.")  # fmt: skip
@click.option("--out", type=PATH, required=True, help="Folder of the page, its pictures and arrays.")
@click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE",
              help="Replace a setting of an explainer: field=value, or name.field=value.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:i].")
@runs_dir_option
@plugin_option
@json_option
def explain(run_id: str, images: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Explain your own images by a run's model: heat maps, probabilities, and a small page.

    Images may be of any size and mode; they are resized as the run's dataset is, which itself is not needed.
    """
    from harness.explain import explain as explain_images

    written = explain_images(run_id, images, **options, quiet=as_json)
    click.echo(written.json() if as_json else written.text())


def _clean(options: dict[str, Any]) -> dict[str, Any]:
    size = options.pop("batch_size")
    if size != "auto" and not (size.isdigit() and int(size) > 0):
        raise UsageError(f"--batch-size {size!r}: expected auto or a number of images.")
    return {**options, "batch_size": None if size == "auto" else int(size)}


@main.group()
def suite() -> None:
    """Make all runs of a table: many methods, datasets and seeds that a TOML file names (docs/suites.md)."""


def _suite_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.argument("path", metavar="FILE", type=PATH),
        click.option("--root", type=PATH, help="Folder of the data; of several datasets, the folder above them."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:i]."),
        click.option("--batch-size", default="auto", show_default=True, metavar="auto|N",
                     help="Images scored at once; changes memory, not results."),
        runs_dir_option,
        plugin_option,
        json_option,
    ]  # fmt: skip
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


@suite.command(name="run")
@_suite_options
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Who does the work: this machine, or Ray (extra `ray`; RAY_ADDRESS, else a cluster of its own here).",
)
@click.option("--jobs", type=int, default=1, show_default=True, metavar="N", help="Runs at once, each in a process.")
@click.option("--dry-run", is_flag=True, help="Print which runs there are and what is missing, and stop.")
@click.pass_context
def run_suite(ctx: click.Context, path: Path, executor: str, jobs: int, dry_run: bool, as_json: bool,
              **options: Any) -> None:  # fmt: skip
    """Make or finish every run of a suite. A second call does what is missing and repeats nothing."""
    from harness import conduct

    state = conduct.run(path, _clean(options), executor=executor, jobs=jobs, dry_run=dry_run, quiet=as_json)
    click.echo(state.json() if as_json else state.text())
    if state.failed:
        ctx.exit(HarnessError.exit_status)


@suite.command(name="status")
@_suite_options
def suite_status(path: Path, as_json: bool, **options: Any) -> None:
    """Say what of a suite is in the store. Nothing is prepared, trained or written."""
    from harness import conduct

    state = conduct.status(path, _clean(options))
    click.echo(state.json() if as_json else state.text())


@main.command(name="list")
@click.argument("what", type=click.Choice(LISTS), metavar="KIND")
@runs_dir_option
@plugin_option
@json_option
def list_(what: str, runs_dir: Path, plugins: tuple[str, ...], as_json: bool) -> None:
    """List what can be named, with its source.

    KIND is one of methods, datasets, models, explainers, metrics, attacks, scores, evaluations, zoo (networks trained
    elsewhere, for --method), runs.
    """
    from harness import listing

    places = {"runs": lambda: listing.runs(runs_dir), "zoo": listing.zoo}
    entries = places[what]() if what in places else listing.components(what.removesuffix("s"), plugins)
    click.echo(json.dumps(entries, indent=1) if as_json else listing.table(entries))
    if what == "methods" and not as_json:
        click.echo("\nAlso zoo:<network>, trained elsewhere and loaded from a file: `harness list zoo` shows them.")


@main.command()
@click.argument("kind")
@click.argument("name")
@plugin_option
@json_option
def show(kind: str, name: str, plugins: tuple[str, ...], as_json: bool) -> None:
    """Show one component: its settings with unit, default and source.

    KIND is method, dataset, model, explainer, attack, score, metric or evaluation.
    """
    from harness import listing

    entry = listing.show(kind, name, plugins)
    click.echo(json.dumps(entry, indent=1) if as_json else listing.card(entry))


@main.group()
def data() -> None:
    """Prepare and verify datasets."""


def _data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.argument("dataset"),
        root_option,
        click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE", help="Replace a setting of the dataset."),
        click.option("--size", type=int, metavar="PX", help="Side of the square image; short for --set size=PX."),
        plugin_option,
        json_option,
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


workers_option = click.option("--workers", type=int, help="Processes that decode; default: one per core.")


@data.command()
@_data_options
@workers_option
@click.option("--verify", is_flag=True, help="Afterwards decode every image again and compare.")
@click.option("--download", "fetch", is_flag=True,
              help="First fetch the dataset's files, where it has public addresses and published sums.")  # fmt: skip
@click.option("--yes", is_flag=True, help="With --download: accept the terms of use; needed without a terminal.")
def prepare(as_json: bool, yes: bool, **options: Any) -> None:
    """Index a dataset and build its fast cache; resumable.

    Stopped by anything, it goes on where it was when the same command is given again. Exit status: 0 done; 2 bad input,
    a full disk, a server that does not answer; 130 interrupted.
    """
    from harness import prepare as preparation

    report = preparation.prepare(**options, ask=_ask(yes), quiet=as_json)
    click.echo(json.dumps(report.entry, indent=1) if as_json else report.text())


def _ask(yes: bool) -> Callable[[str], bool] | None:
    """Return what asks whether an offer is accepted: taken as said by --yes; None where nobody can be asked."""

    def ask(offer: str) -> bool:
        click.echo(visible(offer, layout="\n"), err=True)
        return yes or click.confirm("Fetch them on these terms?", err=True)

    return ask if yes or sys.stdin.isatty() else None


@data.command()
@_data_options
@workers_option
def verify(as_json: bool, **options: Any) -> None:
    """Check a dataset's files and print its card: what it is, its parts, classes, boxes and files.

    Exit status 2 where something is wrong: images that are missing, corrupt, or the same in two parts; patients on two
    sides; boxes that leave their image.
    """
    from harness import prepare as preparation

    report = preparation.verify(**options, quiet=as_json)
    click.echo(json.dumps(report.entry, indent=1) if as_json else report.text())
    if report.problems:
        sys.exit(2)


@main.command()
@runs_dir_option
@click.option("--results", "results_dir", type=PATH, default=Path("results"), show_default=True,
              help="Folder of published records.")  # fmt: skip
@click.option("--out", type=PATH, help="Folder of the pages, by default site; with --single-file the file, site.html.")
@click.option("--single-file", is_flag=True, help="Write all pages and pictures into one HTML file.")
@click.option("--leaderboard", type=PATH, default=Path("leaderboard.md"), show_default=True, help="Markdown table.")
@click.option("--check", is_flag=True, help="Write nothing; fail where the Markdown table is stale.")
def report(
    runs_dir: Path, results_dir: Path, out: Path | None, leaderboard: Path, single_file: bool, check: bool
) -> None:
    """Render the HTML leaderboard of runs and records, and leaderboard.md of the records alone."""
    from harness import pages

    if check:
        click.echo(pages.check(results_dir, leaderboard))
        return
    place = out or Path("site.html" if single_file else "site")
    click.echo(pages.write(runs_dir, results_dir, place, leaderboard, single_file=single_file))


@main.command()
@click.argument("names", metavar="A B", nargs=2)
@click.option("--metric", "metrics", multiple=True, help="Compare this metric alone; may be repeated.")
@click.option("--all", "every", is_flag=True, help="Show every number, not the first 40.")
@click.option("--results", "results_dir", type=PATH, default=Path("results"), show_default=True,
              help="Folder of published records.")  # fmt: skip
@click.option("--out", type=PATH, help="Folder of a page with chart, table and pictures.")
@runs_dir_option
@json_option
def compare(names: tuple[str, str], runs_dir: Path, results_dir: Path, out: Path | None, as_json: bool,
            **options: Any) -> None:  # fmt: skip
    """Compare two runs: paired differences B - A with intervals, and the samples that changed most.

    A and B are runs or published records on the same data, named by their id, the beginning of it, or their path.
    """
    from harness import contrast

    found, page = contrast.compare(names, runs_dir, results_dir, out, **options)
    click.echo(found.json() if as_json else found.text() + (f"\n\n{page}" if page else ""))


@main.command()
@click.argument("name", metavar="RECORD")
@click.option("--results", "results_dir", type=PATH, default=Path("results"), show_default=True,
              help="Folder of published records.")  # fmt: skip
@click.option("--runs-dir", type=PATH, default=Path("reruns"), show_default=True, help="Folder of the repeats.")
@click.option("--evaluation", "evaluations", multiple=True, help="Repeat this evaluation alone; may be repeated.")
@click.option("--checkpoint", type=PATH, help="The file of weights that the record was loaded from.")
@root_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda[:i].")
@click.option("--dry-run", is_flag=True, help="Print the commands that would be given, and stop.")
@plugin_option
@json_option
def rerun(name: str, as_json: bool, **options: Any) -> None:
    """Make a published record again from itself alone, and print what became of each number.

    Every number is the same, within noise (the interval of the difference contains zero) or different, with the likely
    cause: version, device, precision or data. Exit status: 0 alike, 1 a number or the data are others, 3 nothing was
    compared, 4 a part could not be repeated.
    """
    from harness import rerun as repeating

    found = repeating.rerun(name, **options, quiet=as_json)
    click.echo(found.json() if as_json else found.text())
    sys.exit(found.exit_status)


@main.command()
@click.argument("run_id", metavar="RUN")
@click.option("--to", "results_dir", type=PATH, default=Path("results"), show_default=True, help="Folder of records.")
@click.option("--allow-dirty", is_flag=True, help="Publish although the code had uncommitted changes.")
@click.option("--overwrite", is_flag=True, help="Put the run in place of a record of other weights.")
@click.option("--spread", is_flag=True, help="Store how its numbers scatter over five or more seeds, for `check`.")
@runs_dir_option
def publish(run_id: str, results_dir: Path, runs_dir: Path, allow_dirty: bool, overwrite: bool, spread: bool) -> None:
    """Write a run's record (rows and per-sample scores, no images) for others to compare with.

    A record of the same weights keeps what only it has measured.
    """
    from harness import publish as publishing

    path = publishing.publish(
        run_id, runs_dir, results_dir, allow_dirty=allow_dirty, overwrite=overwrite, spread=spread
    )
    click.echo(f"{path}\nCommit it with its .parquet; `harness report` shows it.")


@main.command()
@click.option("--baseline", type=PATH, default=Path("results"), show_default=True, help="Folder of records.")
@click.option("--tolerance", type=PATH, help="TOML file: how much worse what may become (docs/gate.md).")
@click.option("--method", "methods", multiple=True, help="Only records of this method; may be repeated.")
@click.option("--dataset", "datasets", multiple=True, help="Only records of this dataset; may be repeated.")
@click.option("--junit", type=PATH, help="Also write the verdicts as JUnit XML.")
@click.option("--all", "everything", is_flag=True, help="Show every number, not only those worse, better or failed.")
@click.option("--update", is_flag=True, help="Put the runs in place of the records; needs --reason.")
@click.option("--reason", default="", help="Why the numbers may change: stored in the records.")
@runs_dir_option
@json_option
def check(baseline: Path, runs_dir: Path, update: bool, reason: str, as_json: bool, **options: Any) -> None:
    """Compare runs with published records: the regression gate of a CI job.

    Exit status 0: nothing is worse than chance and tolerance allow; 1: something is; 3: nothing was compared; 4: a
    number could not be compared (missing, other data, another profile).
    """
    from harness import check as gate

    if reason and not update:
        raise UsageError("--reason is stored by --update alone. Give both, or neither.")
    checked = gate.check(baseline, runs_dir, **options)
    click.echo(checked.json() if as_json else checked.text())
    for line in checked.annotations():
        click.echo(line, err=as_json)
    if update:
        for path in gate.update(checked, baseline, runs_dir, reason):
            click.echo(f"replaced: {path}", err=as_json)
        return
    sys.exit(checked.exit_status)
