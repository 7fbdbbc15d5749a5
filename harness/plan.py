"""From names and settings to the objects of a run: what `--dry-run` prints, and what run.py then carries out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config import Setting, build, changed, fields_of, route, split_assignment
from harness.data.cache import DatasetSpec
from harness.data.dataset import Dataset
from harness.errors import UsageError
from harness.plugins import Catalogue, Component, catalogue
from harness.recipe import Supervised
from harness.zoo import names as zoo
from harness.zoo.network import Network

STANDARD_EXPLAINERS = ("cam", "saliency")  # protocol.md, 7; the reference rows are added wherever a map is scored
STANDARD_EVALUATIONS = ("classification", "localisation", "robustness", "insertion_deletion")  # protocol.md, 7
PROFILES = ("quick", "paper")


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """What a user asks for: names, settings and places. One method, one dataset, one seed."""

    method: str
    dataset: str
    seed: int = 0
    explainers: tuple[str, ...] = ()  # empty: the standard ones
    evaluations: tuple[str, ...] = ()  # empty: the standard ones
    sets: tuple[str, ...] = ()
    config: tuple[str, ...] = ()  # the same, from --config: --set wins
    model: str | None = None
    checkpoint: Path | None = None
    root: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    profile: str = "quick"
    batch_size: int | None = None
    limit: int | None = None
    existing: str = "reuse"
    runs_dir: Path = Path("runs")
    plugins: tuple[str, ...] = ()

    def public(self) -> dict[str, Any]:
        """Return the spec as run.json keeps it: without the places of this machine."""
        kept = dataclasses.asdict(self)
        for place in ("root", "runs_dir", "device", "existing", "config"):
            kept.pop(place)
        kept["checkpoint"] = self.checkpoint.name if self.checkpoint else None
        kept["plugins"] = [Path(p).name for p in self.plugins]
        return kept


@dataclass(frozen=True)
class Part:
    """One component of a run: what it is, the object, and its settings."""

    component: Component
    made: Any
    settings: list[Setting]

    def key(self) -> dict[str, Any]:
        """Return what a stage key keeps of it: identity and every resolved value."""
        return {**self.component.identity(), "settings": {s.name: _plain(s.value) for s in self.settings}}

    def described(self) -> list[dict[str, Any]]:
        """Return its settings as run.json keeps them."""
        return [dataclasses.asdict(s) | {"value": _plain(s.value), "default": _plain(s.default)} for s in self.settings]

    @property
    def changed(self) -> str:
        """Return the settings that the user changed, as text."""
        return changed(self.settings)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, resolved. `before` is the plan of the run it starts from."""

    spec: RunSpec
    catalogue: Catalogue
    method: Part
    dataset: Part
    model: Part
    explainers: dict[str, Part]
    evaluations: dict[str, Part]
    attacks: dict[str, Part] = field(default_factory=dict)  # those that the evaluations ask for
    before: Plan | None = None
    missing: dict[str, str] = field(default_factory=dict)  # standard evaluations that cannot be run, and why
    network: Network | None = None  # trained elsewhere: it stands for method and model

    @property
    def recipe(self) -> Supervised:
        """Return the method object."""
        return self.method.made

    @property
    def data(self) -> Dataset:
        """Return the dataset object."""
        return self.dataset.made

    @property
    def dataset_name(self) -> str:
        """Return what rows call the data."""
        return self.data.title(self.spec.dataset)

    @property
    def dataset_settings(self) -> str:
        """Return the settings of the dataset that the user changed, as text, but for the one that is in its name."""
        return changed(s for s in self.dataset.settings if s.name != self.data.named_by)

    @property
    def dataset_spec(self) -> DatasetSpec:
        """Return what names the prepared dataset, also in other processes."""
        values = tuple(sorted((s.name, s.value) for s in self.dataset.settings))
        return DatasetSpec(self.spec.dataset, values, self.catalogue.paths)

    def assignments(self) -> list[str]:
        """Return what the user set in this plan, as `component.field=value`, for doing it again."""
        return [
            f"{part.component.name}.{s.name}={','.join(map(str, s.value)) if isinstance(s.value, tuple) else s.value}"
            for part in self.parts
            for s in part.settings
            if s.set_by in ("config", "--set")
        ]

    @property
    def parts(self) -> list[Part]:
        """Return every component of the run."""
        chosen = (self.explainers, self.evaluations, self.attacks)
        return [self.method, self.dataset, self.model, *(part for parts in chosen for part in parts.values())]

    def attacks_of(self, evaluation: Part) -> dict[str, Part]:
        """Return the attacks that an evaluation asks for, in its order; {} for one that attacks nothing."""
        return {name: self.attacks[name] for name in _attack_names(evaluation, self.data, self.spec.profile)}

    def explainers_of(self, evaluation: Part) -> dict[str, Part]:
        """Return the explainers that an evaluation compares, in the run's order; {} for one that compares none."""
        if not evaluation.component.options.get("explainers"):
            return {}
        return {n: p for n, p in self.explainers.items() if not p.component.options.get("reference")}

    def settings(self) -> list[dict[str, Any]]:
        """Return every resolved setting, as run.json keeps them."""
        return [entry for part in self.parts for entry in part.described()]


def make(spec: RunSpec, found: Catalogue | None = None) -> Plan:
    """Resolve a spec. Raises `UsageError` for unknown names, unknown or mistyped settings, circular starts."""
    found = found or catalogue(spec.plugins)
    if spec.profile not in PROFILES:
        raise UsageError(f"--profile {spec.profile!r}: expected {' or '.join(PROFILES)}.")
    if spec.limit is not None and spec.limit < 1:
        raise UsageError(f"--limit {spec.limit}: expected at least 1 sample.")
    if spec.checkpoint is not None and not spec.checkpoint.is_file():
        raise UsageError(f"--checkpoint {spec.checkpoint}: expected a file of weights, nothing is there.")
    network = zoo.find(spec.method, spec.dataset) if zoo.named(spec.method) else None
    spec = _of_network(spec, network) if network else spec
    chain = [network.method] if network else _chain(found, spec.method, (*spec.config, *spec.sets))
    dataset = found.find("dataset", spec.dataset)
    dataset_class = dataset.load()
    explainers, references, evaluations, missing = _selected(spec, found)
    named_model = spec.model or _architecture(chain) or dataset_class.default_model
    model = network.model if network else found.find("model", named_model)
    named = [chain[0], dataset, model, *explainers, *evaluations]
    attacks = found.of("attack") if any(c.options.get("attacks") for c in evaluations) else []
    added = [*references, *chain[1:], *attacks]  # a bare `field=value` is never theirs
    loaded = {c.name: c.load() for c in (*added, *named)}
    routes = {
        layer: _route(sets, {c.name: loaded[c.name] for c in named}, {c.name: loaded[c.name] for c in added})
        for layer, sets in (("config", spec.config), ("--set", spec.sets))
    }

    def part(component: Component, thing: Any, *first: tuple[str, Mapping[str, Any]]) -> Part:
        layers = [(layer, routed.get(component.name, {})) for layer, routed in routes.items()]
        return Part(component, *build(thing, f"{component.kind} {component.name}", *first, *layers))

    evaluating = {c.name: part(c, loaded[c.name]) for c in evaluations}
    data = part(dataset, dataset_class)
    attacking = {name for e in evaluating.values() for name in _attack_names(e, data.made, spec.profile)}
    for name in sorted(attacking):
        found.find("attack", name)
    defaults = {name: _defaults(name, evaluating.values(), spec.profile) for name in attacking}
    for component in evaluations:
        _refuse_other_attacks(component, _attack_names(evaluating[component.name], data.made, spec.profile), found)
    for routed in routes.values():
        for c in attacks:
            if routed.get(c.name) and c.name not in attacking:
                used = ", ".join(sorted(attacking)) or "none"
                raise UsageError(
                    f"--set {c.name}.{next(iter(routed[c.name]))}: {c.name} is not used here. Used: {used}."
                )
    before: Plan | None = None
    for component in reversed(chain):
        thing = loaded[component.name]
        schedule = dict(dataset_class.schedule) | (dataset_class.continuation if component is not chain[-1] else {})
        method = part(component, thing, ("dataset", {k: v for k, v in schedule.items() if k in fields_of(thing)}))
        before = Plan(
            spec=spec if component is chain[0] else dataclasses.replace(spec, method=component.name, existing="reuse"),
            catalogue=found,
            method=method,
            dataset=data,
            model=part(model, loaded[model.name]),
            explainers={c.name: part(c, loaded[c.name]) for c in [*explainers, *references]},
            evaluations=evaluating,
            attacks={c.name: part(c, loaded[c.name], *defaults[c.name]) for c in attacks if c.name in attacking},
            before=before,
            missing=missing,
            network=network,
        )
    assert before is not None
    if spec.checkpoint is not None:
        return dataclasses.replace(before, before=None)
    return before


def remade(info: Mapping[str, Any], changes: Mapping[str, Any], runs_dir: Path) -> Plan:
    """Return the plan of a stored run, from its run.json, with fields of its spec replaced and `sets` added to.

    It is without the run that it starts from: nothing will be trained.
    """
    stored = {k: tuple(v) if isinstance(v, list) else v for k, v in info["spec"].items()}
    if unknown_fields := sorted(stored.keys() - {f.name for f in dataclasses.fields(RunSpec)}):
        raise UsageError(
            f"run.json: its spec has {', '.join(unknown_fields):.200}, unknown here. Make the run again by its command."
        )
    stored |= {"checkpoint": None, "plugins": (), "runs_dir": runs_dir}
    sets, chosen = stored.pop("sets"), {k: v for k, v in changes.items() if k != "sets"}
    spec = RunSpec(**{**stored, **chosen})
    names = {part.component.name for part in make(spec).parts}
    kept = tuple(s for s in sets if s.partition(".")[0] in names)  # not those of explainers that are not asked for now
    spec = dataclasses.replace(spec, sets=(*kept, *changes.get("sets", ())))
    return dataclasses.replace(make(spec), before=None)


def _of_network(spec: RunSpec, network: Network) -> RunSpec:
    """Return the spec with the network's name in full; raises `UsageError` for what only a training could use."""
    given = {
        "--model": spec.model if spec.model != network.architecture else None,
        "--checkpoint": spec.checkpoint,
        "--seed": spec.seed or None,
    }
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} {value}: {network.name} is one trained network. Leave {option} out.")
    return dataclasses.replace(spec, method=network.name)


def _attack_names(evaluation: Part, data: Dataset, profile: str) -> tuple[str, ...]:
    """Return the names of the attacks that an evaluation uses on a dataset; () for one that attacks nothing."""
    if not evaluation.component.options.get("attacks"):
        return ()
    return evaluation.made.attack_names(data.task, profile)


def _defaults(attack: str, evaluations: Iterable[Part], profile: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the layers of settings that evaluations give an attack."""
    given = (e.made.attack_settings(profile).get(attack) for e in evaluations if hasattr(e.made, "attack_settings"))
    return [("evaluation", values) for values in given if values]


def _refuse_other_attacks(evaluation: Component, names: Iterable[str], found: Catalogue) -> None:
    """Raise `UsageError` for attacks that find something else than the evaluation is made of, where it says what."""
    wanted = evaluation.options.get("finds")
    for name in names:
        got = found.find("attack", name).options.get("finds")
        if wanted and got != wanted:
            known = ", ".join(c.name for c in found.of("attack") if c.options.get("finds") == wanted)
            raise UsageError(f"{evaluation.name}: expected a {wanted} attack, got {name}, a {got} one. Known: {known}.")


def _chain(found: Catalogue, name: str, sets: Iterable[str]) -> list[Component]:
    """Return the method and those it starts from, the first one last; `sets` may replace start_from."""
    chain: list[Component] = []
    replaced = {}
    for target, value in map(split_assignment, sets):
        owner, _, setting = target.rpartition(".")
        if setting == "start_from":
            replaced[owner or name] = None if value.casefold() == "none" else value
    following: str | None = name
    while following:
        component = found.find("method", following)
        if component in chain:
            circle = " -> ".join(c.name for c in [*chain, component])
            raise UsageError(f"methods start from each other in a circle: {circle}. Mend start_from.")
        chain.append(component)
        following = replaced.get(following, component.load().start_from)
    return chain


def _architecture(chain: Iterable[Component]) -> str | None:
    """Return the architecture that the method, else the nearest one it starts from, stands for."""
    return next((c.load().model for c in chain if c.load().model), None)


def _selected(
    spec: RunSpec, found: Catalogue
) -> tuple[list[Component], list[Component], list[Component], dict[str, str]]:
    """Return the explainers, the reference rows beside them, the evaluations, and what is missing."""
    known = {c.name for c in found.of("evaluation")}
    missing = {}
    if spec.evaluations:
        evaluations = [found.find("evaluation", name) for name in spec.evaluations]
    else:
        evaluations = [found.find("evaluation", name) for name in STANDARD_EVALUATIONS if name in known]
        missing = {n: "not in the version of harness that made the run" for n in STANDARD_EVALUATIONS if n not in known}
    explainers = [found.find("explainer", name) for name in dict.fromkeys(spec.explainers or STANDARD_EXPLAINERS)]
    references = [c for c in found.of("explainer") if c.options.get("reference") and c not in explainers]
    return explainers, references, evaluations, missing


def _route(sets: tuple[str, ...], named: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Route assignments: bare fields to the components that the user named, `name.field` to the added ones as well."""
    theirs = [s for s in sets if split_assignment(s)[0].rpartition(".")[0] in added.keys() - named.keys()]
    return route(theirs, added) | route([s for s in sets if s not in theirs], named)
