"use strict";
// The leaderboard: which board, lines and columns are shown, in which order; the address keeps it, downloads hold it.
(() => {
  const at = (id) => document.getElementById(id);
  const sections = [...document.querySelectorAll("section.board")];
  const stored = [...document.querySelectorAll("script[data-board]")];
  const read = new Map(); // a board's data is read when it is first shown
  const WORDS = ["method", "model", "seeds"];
  const SUMMARY = ["macro", "all"];
  const FEW = 6; // published systems that are shown before anyone asks for more
  const ALL = "*";

  const state = { board: 0, explainers: new Set(), classes: new Set(), columns: new Set(), sort: null, down: true, filter: "",
    open: new Set(), every: false, bars: true, published: "few" };

  function board() {
    if (!read.has(state.board)) {
      const data = JSON.parse(stored[state.board].textContent);
      data.words = data.lines.map((x) => [x.method, x.model, x.settings, ...x.runs.flatMap((r) => [r.id, `seed ${r.seed}`]), ...x.flags.map((f) => data.flags[f][0])].join("\n").toLowerCase());
      data.labels = data.columns.map((c) => `${c.evaluation} ${c.label}`.toLowerCase());
      read.set(state.board, data);
    }
    return read.get(state.board);
  }
  const section = () => sections[state.board];
  const explainersOf = (b) => [...new Set(b.columns.map((c) => c.explainer).filter(Boolean))].sort();
  const classesOf = (b) => [...new Set(b.columns.map((c) => c.class_name).filter((c) => !SUMMARY.includes(c)))];

  const fits = (c) => (!c.explainer || state.explainers.has(c.explainer)) && (SUMMARY.includes(c.class_name) || state.classes.has(c.class_name));
  const numbers = (test) => board().columns.flatMap((c, i) => (test(c) ? [i] : []));
  const standard = () => numbers((c) => fits(c) && (c.headline || !SUMMARY.includes(c.class_name)));

  // ---- the search: a word that no line has, but columns do, narrows the columns
  function wanted() {
    const found = { lines: [], columns: [] };
    for (const word of state.filter.toLowerCase().split(/\s+/).filter(Boolean)) {
      const ofLines = board().words.some((w) => w.includes(word)), ofColumns = board().labels.some((l) => l.includes(word));
      found[!ofLines && ofColumns ? "columns" : "lines"].push(word);
    }
    return found;
  }
  function visible() {
    const words = wanted().columns;
    if (words.length) return board().columns.flatMap((_, i) => (words.every((w) => board().labels[i].includes(w)) ? [i] : []));
    return [...state.columns].sort((a, b) => a - b);
  }

  // ---- the address after # keeps the view, so that it can be linked to
  const label = (i) => board().columns[i].label;
  function address() {
    const p = new URLSearchParams();
    if (state.board) p.set("board", board().title);
    if ([...state.explainers].join() !== explainersOf(board()).slice(0, 1).join()) p.set("explainer", [...state.explainers].join("|"));
    if (state.classes.size) p.set("classes", [...state.classes].join("|"));
    const columns = [...state.columns].sort((a, b) => a - b);
    if (columns.join() !== standard().join()) p.set("columns", columns.map(label).join("|"));
    p.set("sort", (state.down ? "-" : "") + (typeof state.sort === "number" ? label(state.sort) : state.sort));
    if (state.filter) p.set("filter", state.filter);
    if (!state.bars) p.set("whiskers", "off");
    if (state.published !== "few") p.set("published", state.published);
    if (state.every) p.set("seeds", "all");
    if (state.open.size) p.set("open", [...state.open].map((i) => board().lines[i].runs[0].id).join("|"));
    return "#" + p;
  }
  const save = () => history.replaceState(null, "", address());

  function load() {
    const p = new URLSearchParams(location.hash.slice(1));
    const list = (name) => (p.get(name) ?? "").split("|").filter(Boolean);
    const asked = p.get("board");
    state.board = Math.max(0, sections.findIndex((s) => s.getAttribute("aria-label") === asked));
    const explainers = explainersOf(board());
    const chosen = p.get("explainer") === ALL ? explainers : list("explainer").filter((e) => explainers.includes(e));
    state.explainers = new Set(chosen.length || p.get("explainer") === "" ? chosen : explainers.slice(0, 1));
    state.classes = new Set(list("classes").filter((c) => classesOf(board()).includes(c)));
    const labels = board().columns.map((c) => c.label);
    state.columns = new Set(p.has("columns") ? list("columns").map((l) => labels.indexOf(l)).filter((i) => i >= 0) : standard());
    state.filter = p.get("filter") ?? "";
    state.bars = p.get("whiskers") !== "off";
    state.published = ["off", "all"].includes(p.get("published")) ? p.get("published") : "few";
    state.every = p.get("seeds") === "all";
    state.open = new Set(list("open").map((id) => board().lines.findIndex((x) => x.runs[0].id === id)).filter((i) => i >= 0));
    setSort(p.get("sort"));
  }

  function setSort(text) {
    const name = (text ?? "").replace(/^-/, "").replace(/^seed$/, "seeds"); // links to an earlier report said seed
    const i = name ? board().columns.findIndex((c) => c.label === name) : -1;
    if (i >= 0 || WORDS.includes(name)) {
      state.sort = i >= 0 ? i : name;
      state.down = text.startsWith("-");
    } else {
      state.sort = visible()[0] ?? "method";
      state.down = typeof state.sort === "number" && board().columns[state.sort].higher;
    }
  }

  // ---- lines in the order shown
  function order() {
    const words = wanted().lines, { lines } = board();
    const kept = lines.map((_, i) => i).filter((i) => words.every((w) => board().words[i].includes(w)));
    const sign = state.down ? -1 : 1;
    const value = (i) => (typeof state.sort === "number" ? lines[i].cells[state.sort][5] ?? null : state.sort === "seeds" ? lines[i].runs.length : lines[i][state.sort]);
    return kept.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // missing last, either way
      return (x < y ? -sign : x > y ? sign : 0) || a - b;
    });
  }
  const isOpen = (i) => state.every || state.open.has(i);

  function view() {
    const columns = visible(), b = board();
    const explained = columns.some((i) => b.columns[i].explainer);
    const fit = state.published === "off" ? [] : b.published.flatMap((x, i) => (columns.some((k) => x.cells[k].length > 5) ? [i] : []));
    const published = state.published === "all" ? fit : fit.slice(0, FEW);
    return { columns, order: order(), open: isOpen, sort: state.sort, down: state.down, bars: state.bars, few: FEW,
      references: explained ? b.references.map((_, i) => i) : [], published, hidden: fit.length - published.length };
  }

  // ---- showing
  let shown; // what the table on the screen holds
  function show() {
    shown = view();
    sections.forEach((s, i) => (s.hidden = i !== state.board));
    const box = section().querySelector(".scroll.js");
    box.innerHTML = harness.table.html(board(), shown);
    sections.forEach((s, i) => { if (i !== state.board) s.querySelector(".scroll.js").replaceChildren(); });
    hideTip();
    const marks = new Set([...box.querySelectorAll("sup")].map((s) => s.textContent));
    section().querySelectorAll(".footnotes:not(.flags) > div").forEach((d) => (d.hidden = !marks.has(d.firstElementChild.textContent)));
    section().querySelector(".when-below").hidden = !box.querySelector(".ref");
    const sources = section().querySelector(".published-sources");
    if (sources) {
      const told = new Set(shown.published.map((i) => board().published[i].number));
      sources.hidden = !told.size;
      sources.querySelectorAll("li").forEach((li) => (li.hidden = !told.has(li.value)));
    }
    section().querySelector(".apart.js").textContent = said();
    const total = board().lines.length, count = shown.order.length;
    at("count").textContent = `${count === total ? "" : `${count} of `}${total} line${total === 1 ? "" : "s"}, ${shown.columns.length} of ${board().columns.length} columns`;
    save();
  }
  function said() {
    const column = typeof state.sort === "number" ? state.sort : shown.columns[0];
    const text = column === undefined ? "" : board().columns[column].said;
    return text && shown.order.length < board().lines.length ? `${text} Of all ${board().lines.length} lines of the board.` : text;
  }

  // ---- choices
  function check(text, checked, act) {
    const line = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, { type: "checkbox", checked });
    box.addEventListener("change", () => act(box.checked));
    line.append(box, text);
    return line;
  }
  const put = (set, value, on) => (on ? set.add(value) : set.delete(value));

  function fill() {
    at("board").value = sections[state.board].id;
    at("filter").value = state.filter;
    at("whiskers").checked = state.bars;
    at("published").checked = state.published !== "off";
    at("published").parentElement.hidden = !board().published.length;
    at("seeds").checked = state.every;
    at("seeds").parentElement.hidden = !board().lines.some((x) => x.runs.length > 1);
    facet("explainers", explainersOf(board()), state.explainers);
    facet("classes", classesOf(board()), state.classes);
    menu();
  }

  function facet(id, values, chosen) {
    const box = at(id);
    box.hidden = !values.length;
    box.querySelector("b").textContent = chosen.size === values.length && values.length > 1 ? "all" : [...chosen].length > 2 ? chosen.size : [...chosen].join(", ") || "none";
    const changed = () => {
      state.columns = new Set(standard());
      if (typeof state.sort === "number" && !state.columns.has(state.sort)) setSort(null);
      const focus = [...box.querySelectorAll("input, button")].indexOf(document.activeElement);
      fill(); show();
      box.querySelectorAll("input, button")[focus]?.focus();
    };
    const choices = document.createElement("p");
    choices.className = "choices";
    for (const [text, some] of [["all", values], ["none", []]]) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      button.addEventListener("click", () => { chosen.clear(); some.forEach((v) => chosen.add(v)); changed(); });
      choices.append(button);
    }
    box.querySelector(".menu").replaceChildren(choices, ...values.map((v) => check(v, chosen.has(v), (on) => { put(chosen, v, on); ordered(chosen, values); changed(); })));
  }
  function ordered(chosen, values) {
    const kept = values.filter((v) => chosen.has(v));
    chosen.clear();
    kept.forEach((v) => chosen.add(v));
  }

  function menu() {
    const find = at("find-column").value.toLowerCase(), groups = new Map();
    board().columns.forEach((c, i) => {
      if (!(fits(c) || state.columns.has(i)) || !board().labels[i].includes(find)) return;
      const name = [c.evaluation, c.explainer].filter(Boolean).join(": ");
      groups.set(name, [...(groups.get(name) ?? []), i]);
    });
    at("columns").querySelector("b").textContent = `${state.columns.size} of ${board().columns.length}`;
    at("column-list").replaceChildren(...[...groups].map(([name, members]) => {
      const set = document.createElement("fieldset"), legend = document.createElement("legend");
      legend.textContent = name;
      set.append(legend, ...members.map((i) => check(label(i), state.columns.has(i), (on) => {
        put(state.columns, i, on);
        at("columns").querySelector("b").textContent = `${state.columns.size} of ${board().columns.length}`;
        show();
      })));
      return set;
    }));
  }

  // ---- downloads: the lines and columns on the screen, numbers in full precision
  function table() {
    const b = board(), columns = shown.columns.map((i) => b.columns[i]);
    const cells = (list) => shown.columns.map((i) => harness.table.cell(list[i], b.texts));
    const flags = (list) => list.map((f) => b.flags[f][0]);
    const rows = shown.order.flatMap((i) => {
      const x = b.lines[i], several = x.runs.length > 1, own = { model: x.model, settings: x.settings, source: "" };
      const first = { kind: "line", name: x.method, ...own, seeds: x.runs.map((r) => r.seed), runs: x.runs.map((r) => r.id), flags: flags(x.flags), cells: cells(x.cells),
        each: several ? x.runs.map((r) => ({ run: r.id, seed: r.seed, cells: cells(r.cells) })) : undefined };
      const each = several && isOpen(i) ? x.runs.map((r) => ({ kind: "seed", name: x.method, ...own, seeds: [r.seed], runs: [r.id], flags: flags(r.flags), cells: cells(r.cells) })) : [];
      return [first, ...each];
    });
    const other = (kind, x, source) => ({ kind, name: x.name, model: "", settings: "", seeds: [], runs: [], flags: [], source, cells: cells(x.cells) });
    rows.push(...shown.references.map((i) => other("reference", b.references[i], "")), ...shown.published.map((i) => other("published", b.published[i], b.published[i].source)));
    return { board: b.title, columns, rows, said: said() };
  }
  const files = { csv: ["csv", "text/csv"], json: ["json", "application/json"], latex: ["tex", "text/x-tex"], markdown: ["md", "text/markdown"] };
  for (const [name, [ending, type]] of Object.entries(files))
    at(name).addEventListener("click", () => harness.download(`leaderboard.${ending}`, `${type};charset=utf-8`, harness.takeaway[name](table())));
  at("link").addEventListener("click", async () => {
    const text = location.href.split("#")[0] + address();
    try { await navigator.clipboard.writeText(text); } catch { // not allowed on some pages opened from a file
      const field = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(field); field.select(); document.execCommand("copy"); field.remove(); at("link").focus();
    }
    at("count").textContent = "The link to this view is copied.";
  });

  // ---- what stands behind a cell: under the pointer, and read out where a key brings the focus
  const tip = at("tip");
  function behind(target) {
    const row = target.closest("tr"), b = board();
    if (target.dataset.c !== undefined) {
      const i = row.dataset.i, list = row.dataset.kind ? b[row.dataset.kind][i].cells : row.dataset.s !== undefined ? b.lines[i].runs[row.dataset.s].cells : b.lines[i].cells;
      return harness.table.cell(list[target.dataset.c], b.texts).title;
    }
    if (row.dataset.kind === "published") return b.published[row.dataset.i].source;
    if (row.dataset.i === undefined || row.dataset.kind) return "";
    const x = b.lines[row.dataset.i], own = row.dataset.s !== undefined ? x.runs[row.dataset.s].flags : x.flags;
    return own.map((f) => `${b.flags[f][0]}: ${b.flags[f][1]}`).join(". ");
  }
  function showTip(target) {
    const text = behind(target);
    if (!text) return hideTip();
    tip.textContent = text;
    tip.hidden = false;
    target.setAttribute("aria-describedby", "tip");
    const box = target.getBoundingClientRect(), own = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(box.left, document.documentElement.clientWidth - own.width - 8))}px`;
    tip.style.top = `${box.bottom + own.height + 8 < innerHeight ? box.bottom + 4 : Math.max(8, box.top - own.height - 4)}px`;
  }
  function hideTip() {
    tip.hidden = true;
    document.querySelector("[aria-describedby=tip]")?.removeAttribute("aria-describedby");
  }
  const cellOf = (target) => target.closest?.("tbody :is(td.n, th.name)");
  function move(from, key) {
    const rows = [...from.closest("table").tBodies].flatMap((body) => [...body.rows]).filter((r) => r.querySelector("th.name"));
    const row = from.closest("tr"), stops = (r) => [...r.cells].filter((c) => c.hasAttribute("tabindex") && c.offsetParent);
    const x = stops(row).indexOf(from), y = rows.indexOf(row);
    const [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
    const next = stops(rows[y + dy] ?? row)[x + dx] ?? from;
    next.focus();
  }
  for (const s of sections) {
    const box = s.querySelector(".scroll.js");
    box.addEventListener("pointerover", (e) => { const c = cellOf(e.target); if (c) showTip(c); });
    box.addEventListener("pointerout", (e) => { const c = cellOf(e.target); if (c && !c.contains(e.relatedTarget) && document.activeElement !== c) hideTip(); });
    box.addEventListener("focusin", (e) => { if (cellOf(e.target) === e.target) showTip(e.target); else hideTip(); });
    box.addEventListener("focusout", hideTip);
    box.addEventListener("scroll", () => { if (document.activeElement === box) hideTip(); });
    box.addEventListener("keydown", (e) => {
      const cell = cellOf(e.target);
      if (e.target === box && ["Enter", "ArrowDown"].includes(e.key)) { e.preventDefault(); box.querySelector("tbody .name")?.focus(); }
      else if (cell === e.target && e.key.startsWith("Arrow")) { e.preventDefault(); move(cell, e.key); }
      else if (cell === e.target && e.key === "Escape") { if (tip.hidden) box.focus(); else hideTip(); }
    });
    box.addEventListener("click", (e) => {
      const button = e.target.closest("button");
      if (!button) return;
      if (button.dataset.sort !== undefined) {
        const key = button.dataset.sort, next = WORDS.includes(key) ? key : Number(key);
        state.down = next === state.sort ? !state.down : typeof next === "number" && board().columns[next].higher;
        state.sort = next;
        again(`[data-sort="${key}"]`);
      } else if (button.dataset.open !== undefined) {
        const i = Number(button.dataset.open);
        if (state.every) { state.every = false; at("seeds").checked = false; board().lines.forEach((x, k) => { if (x.runs.length > 1) state.open.add(k); }); }
        put(state.open, i, !state.open.has(i));
        again(`[data-open="${i}"]`);
      } else if (button.dataset.published !== undefined) {
        state.published = state.published === "all" ? "few" : "all";
        again("[data-published]");
      }
    });
  }
  function again(selector) { // the table is drawn anew: scroll and focus stay where they were
    const box = section().querySelector(".scroll.js"), { scrollLeft, scrollTop } = box;
    show();
    box.scrollTo(scrollLeft, scrollTop);
    box.querySelector(selector)?.focus({ preventScroll: true });
  }

  // ---- events
  at("board").addEventListener("change", (e) => {
    state.board = sections.findIndex((s) => s.id === e.target.value);
    const explainers = explainersOf(board());
    state.explainers = new Set([...state.explainers].filter((x) => explainers.includes(x)));
    if (!state.explainers.size) state.explainers = new Set(explainers.slice(0, 1));
    state.classes = new Set([...state.classes].filter((c) => classesOf(board()).includes(c)));
    state.columns = new Set(standard());
    state.open = new Set();
    setSort(null); fill(); show();
  });
  at("filter").addEventListener("input", (e) => { state.filter = e.target.value; show(); });
  at("find-column").addEventListener("input", menu);
  at("whiskers").addEventListener("change", (e) => { state.bars = e.target.checked; show(); });
  at("published").addEventListener("change", (e) => { state.published = e.target.checked ? "few" : "off"; show(); });
  at("seeds").addEventListener("change", (e) => { state.every = e.target.checked; state.open.clear(); show(); });
  document.querySelectorAll("[data-columns]").forEach((button) => button.addEventListener("click", () => {
    state.columns = new Set({ standard, all: () => numbers(fits), none: () => [] }[button.dataset.columns]());
    menu(); show();
  }));
  at("controls").addEventListener("submit", (e) => e.preventDefault());
  const menus = [...document.querySelectorAll(".menu-box")];
  menus.forEach((m) => m.addEventListener("toggle", () => { // a menu that would leave the window is moved back into it
    const menu = m.querySelector(".menu");
    menu.style.left = "0";
    const box = menu.getBoundingClientRect(), room = document.documentElement.clientWidth - 12;
    if (m.open) menu.style.left = `${Math.max(12 - m.getBoundingClientRect().left, Math.min(0, room - box.right))}px`;
  }));
  document.addEventListener("click", (e) => menus.forEach((m) => { if (e.target.isConnected && !m.contains(e.target)) m.open = false; }));
  document.addEventListener("keydown", (e) => {
    const open = e.key === "Escape" && menus.find((m) => m.open);
    if (open) { open.open = false; open.firstElementChild.focus(); }
  });
  addEventListener("hashchange", () => { load(); fill(); show(); });

  load(); fill(); show();
})();
