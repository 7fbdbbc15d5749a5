"use strict";
// The leaderboard: which board, explainer and columns are shown, in which order, and downloads of exactly that.
(() => {
  const boards = JSON.parse(document.getElementById("data").textContent);
  const sections = [...document.querySelectorAll("section.board")];
  const at = (id) => document.getElementById(id);
  const KEYS = { method: 1, model: 2, seed: 4 }; // places of the words in a line: run, method, model, settings, seed
  const FIXED = 3; // cells before the first metric
  const ALL = "*";

  const state = { board: 0, explainer: null, columns: null, sort: null, down: true, filter: "" };
  const board = () => boards[state.board];
  const section = () => sections[state.board];
  const explainersOf = (b) => [...new Set(b.columns.map((c) => c[1]).filter(Boolean))].sort();

  const fits = (c) => !c[1] || state.explainer === ALL || c[1] === state.explainer;
  const standard = () => board().columns.map((c, i) => [c, i]).filter(([c]) => fits(c) && c[3]).map(([, i]) => i);
  const visible = () => [...state.columns].sort((a, b) => a - b);

  // ---- the address after # keeps the view, so that it can be linked to
  function save() {
    const p = new URLSearchParams();
    if (state.board) p.set("board", board().title);
    if (explainersOf(board())[0] !== state.explainer) p.set("explainer", state.explainer);
    if (visible().join() !== standard().join()) p.set("columns", visible().map((i) => board().columns[i][0]).join("|"));
    p.set("sort", (state.down ? "-" : "") + (typeof state.sort === "number" ? board().columns[state.sort][0] : state.sort));
    if (state.filter) p.set("filter", state.filter);
    history.replaceState(null, "", "#" + p);
  }

  function load() {
    const p = new URLSearchParams(location.hash.slice(1));
    state.board = Math.max(0, boards.findIndex((b) => b.title === p.get("board")));
    const explainers = explainersOf(board());
    const asked = p.get("explainer");
    state.explainer = explainers.includes(asked) || asked === ALL ? asked : explainers[0] ?? ALL;
    const labels = board().columns.map((c) => c[0]);
    const columns = (p.get("columns") ?? "").split("|").map((l) => labels.indexOf(l)).filter((i) => i >= 0);
    state.columns = new Set(p.has("columns") ? columns : standard());
    state.filter = p.get("filter") ?? "";
    setSort(p.get("sort"));
  }

  function setSort(text) {
    const name = (text ?? "").replace(/^-/, "");
    const i = board().columns.findIndex((c) => c[0] === name);
    if (i >= 0 || name in KEYS) {
      state.sort = i >= 0 ? i : name;
      state.down = text.startsWith("-");
    } else {
      state.sort = visible()[0] ?? "method";
      state.down = typeof state.sort === "number" && board().columns[state.sort][4];
    }
  }

  // ---- lines in the order shown
  const words = (line) => [line[0], line[1], line[2], line[3], "seed " + line[4], ...line[5]].join("\n").toLowerCase();
  function lines() {
    const wanted = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = board().lines.map((line, i) => [line, i]).filter(([line]) => wanted.every((w) => words(line).includes(w)));
    const sign = state.down ? -1 : 1;
    const value = ([line]) => (typeof state.sort === "number" ? line[6][state.sort][0] : line[KEYS[state.sort]]);
    return kept.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === null || y === null) return (x === null) - (y === null) || a[1] - b[1]; // missing last, either way
      return (x < y ? -sign : x > y ? sign : 0) || a[1] - b[1];
    });
  }

  // ---- showing
  function show() {
    sections.forEach((s, i) => (s.hidden = i !== state.board));
    const shown = new Set(visible());
    const table = section().querySelector("table");
    for (const row of table.rows)
      for (let i = FIXED; i < row.cells.length; i++) row.cells[i].hidden = !shown.has(i - FIXED);
    const heading = table.querySelector(".heading th");
    if (heading) heading.colSpan = FIXED + shown.size;
    const references = table.querySelector(".references");
    if (references) references.hidden = ![...shown].some((i) => board().columns[i][1]);
    const marks = new Set([...table.querySelectorAll("td:not([hidden]) sup")].map((s) => s.textContent));
    section().querySelectorAll(".footnotes > div").forEach((d) => (d.hidden = !marks.has(d.firstElementChild.textContent)));
    table.querySelectorAll("thead button").forEach((button) => {
      const key = button.dataset.sort, mine = key === String(state.sort);
      if (mine) button.parentElement.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else button.parentElement.removeAttribute("aria-sort");
    });
    arrange();
  }

  function arrange() {
    const body = section().querySelector("tbody.lines"), order = lines();
    const rows = [...body.rows].sort((a, b) => a.dataset.i - b.dataset.i);
    rows.forEach((r) => (r.hidden = true));
    order.forEach(([, i]) => { rows[i].hidden = false; body.append(rows[i]); });
    const total = board().lines.length;
    at("count").textContent = order.length === total ? `${total} run${total === 1 ? "" : "s"}` : `${order.length} of ${total} runs`;
    save();
  }

  function fill() {
    const explainers = explainersOf(board());
    at("board").value = sections[state.board].id;
    at("explainer").replaceChildren(...[...explainers, ...(explainers.length > 1 ? [ALL] : [])].map((e) => new Option(e === ALL ? "all" : e, e)));
    at("explainer").closest("label").hidden = !explainers.length;
    at("explainer").value = state.explainer;
    at("filter").value = state.filter;
    menu();
  }

  function menu() {
    const groups = new Map();
    board().columns.forEach((c, i) => { if (fits(c)) groups.set(c[1], [...(groups.get(c[1]) ?? []), i]); });
    at("column-list").replaceChildren(...[...groups].map(([name, members]) => {
      const set = document.createElement("fieldset"), legend = document.createElement("legend");
      legend.textContent = name || "without an explainer";
      set.append(legend, ...members.map((i) => {
        const label = document.createElement("label"), box = document.createElement("input");
        Object.assign(box, { type: "checkbox", checked: state.columns.has(i) });
        box.addEventListener("change", () => { box.checked ? state.columns.add(i) : state.columns.delete(i); show(); });
        label.append(box, board().columns[i][0]);
        return label;
      }));
      return set;
    }));
  }

  // ---- downloads: the lines and columns on the screen, numbers in full precision
  const part = (c) => ({ value: c[0], low: c[1], high: c[2], n: c[3], rank_group: c[4], note: board().reasons[c[5]] });
  function records() {
    const columns = visible();
    const metrics = (cells) => Object.fromEntries(columns.map((i) => [board().columns[i][0], part(cells[i])]));
    const own = lines().map(([l]) => ({ run: l[0], method: l[1], model: l[2], settings: l[3], seed: l[4], flags: l[5], reference: false, metrics: metrics(l[6]) }));
    const references = columns.some((i) => board().columns[i][1]) ? board().references : [];
    return [...own, ...references.map(([name, cells]) => ({ run: "", method: name, model: "", settings: "", seed: null, flags: [], reference: true, metrics: metrics(cells) }))];
  }

  function csv() {
    const labels = visible().map((i) => board().columns[i][0]), parts = ["value", "low", "high", "n", "rank_group", "note"];
    const head = ["run", "method", "model", "settings", "seed", "flags", "reference", ...labels.flatMap((l) => parts.map((p) => (p === "value" ? l : `${l} ${p}`)))];
    const rows = records().map((r) => [r.run, r.method, r.model, r.settings, r.seed, r.flags.join("; "), r.reference,
      ...labels.flatMap((l) => parts.map((p) => r.metrics[l][p]))]);
    return harness.csv([head, ...rows]);
  }

  // ---- events
  at("board").addEventListener("change", (e) => {
    state.board = sections.findIndex((s) => s.id === e.target.value);
    const explainers = explainersOf(board());
    if (!explainers.includes(state.explainer)) state.explainer = explainers[0] ?? ALL;
    state.columns = new Set(standard());
    setSort(null); fill(); show();
  });
  at("explainer").addEventListener("change", (e) => {
    state.explainer = e.target.value;
    state.columns = new Set(standard());
    if (!state.columns.has(state.sort)) setSort(null);
    menu(); show();
  });
  at("filter").addEventListener("input", (e) => { state.filter = e.target.value; arrange(); });
  at("controls").addEventListener("submit", (e) => e.preventDefault());
  sections.forEach((s) => s.querySelector("thead").addEventListener("click", (e) => {
    const key = e.target.closest("button")?.dataset.sort;
    if (key === undefined) return;
    const next = key in KEYS ? key : Number(key);
    state.down = next === state.sort ? !state.down : typeof next === "number" && board().columns[next][4];
    state.sort = next; show();
  }));
  const menuBox = at("columns");
  document.addEventListener("click", (e) => { if (!menuBox.contains(e.target)) menuBox.open = false; });
  document.addEventListener("keydown", (e) => { if (e.key === "Escape" && menuBox.open) { menuBox.open = false; menuBox.firstElementChild.focus(); } });
  at("csv").addEventListener("click", () => harness.download("leaderboard.csv", "text/csv;charset=utf-8", csv()));
  at("json").addEventListener("click", () => harness.download("leaderboard.json", "application/json", JSON.stringify({ board: board().title, rows: records() }, null, 1)));
  addEventListener("hashchange", () => { load(); fill(); show(); });

  load(); fill(); show();
})();
