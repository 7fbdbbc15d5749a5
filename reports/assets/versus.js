"use strict";
// Two runs against each other: the two that are chosen are loaded, subtracted and shown. The address keeps the choice.
(() => {
  const offered = JSON.parse(document.getElementById("entries").textContent);
  const at = (id) => document.getElementById(id);
  const choosers = { a: at("a"), b: at("b") };
  const LEVEL = 0.05, ALL = "*", MINUS = "\u2212";
  const SHOWN = { evaluation: "every evaluation", explainer: "every explainer" };
  const state = { a: null, b: null, evaluation: ALL, explainer: ALL, scale: "errors" }; // a, b: [board, run]
  let found = null; // what is shown: lines, boards, runs
  let asked = 0, neither = 0;

  const run = (place) => offered[place[0]].runs[place[1]];
  const places = offered.flatMap((board, i) => board.runs.map((_, j) => [i, j]));
  const same = (p, q) => p[0] === q[0] && p[1] === q[1];

  // ---- the address: runs by their ids, and the board where one is on several
  function placed(id, board) {
    const mine = places.filter((p) => run(p).id === id);
    return mine.find((p) => offered[p[0]].board === board) ?? mine[0] ?? null;
  }

  function standard() {
    const board = offered.findIndex((b) => b.runs.length > 1), i = Math.max(board, 0), runs = offered[i].runs;
    const method = (r) => r.text.split(",")[0];
    const other = runs.findIndex((r) => method(r) !== method(runs[0]));
    return [[i, 0], [i, other > 0 ? other : runs.length > 1 ? 1 : 0]];
  }

  function load() {
    const p = new URLSearchParams(location.hash.slice(1)), [first, second] = standard();
    state.lost = ["a", "b"].filter((k) => p.has(k) && !placed(p.get(k))).map((k) => p.get(k));
    const alone = p.has("a") && !p.has("b") ? placed(p.get("a"), p.get("board")) : null;
    state.a = placed(p.get("a"), p.get("board")) ?? first;
    state.b = placed(p.get("b"), p.get("board_b") ?? p.get("board")) ?? (alone ? beside(alone) : second);
    if (!p.has("board") && state.a[0] !== state.b[0]) {
      const shared = places.filter((q) => run(q).id === run(state.b).id).map((q) => q[0]);
      state.a = places.find((q) => run(q).id === run(state.a).id && shared.includes(q[0])) ?? state.a;
      state.b = places.find((q) => run(q).id === run(state.b).id && q[0] === state.a[0]) ?? state.b;
    }
    state.evaluation = p.get("evaluation") ?? ALL;
    state.explainer = p.get("explainer") ?? ALL;
    state.scale = p.get("scale") === "plain" ? "plain" : "errors";
  }

  // The run that a run is held against when nothing was said: the first other one of its board, of another method if there is one.
  function beside(place) {
    const others = places.filter((p) => p[0] === place[0] && !same(p, place)), method = (p) => run(p).text.split(",")[0];
    return others.find((p) => method(p) !== method(place)) ?? others[0] ?? place;
  }

  function save() {
    const p = new URLSearchParams({ a: run(state.a).id, b: run(state.b).id });
    const several = [state.a, state.b].some((s) => places.filter((q) => run(q).id === run(s).id).length > 1);
    if (several) p.set("board", offered[state.a[0]].board);
    if (several && state.b[0] !== state.a[0]) p.set("board_b", offered[state.b[0]].board);
    for (const name of Object.keys(SHOWN)) if (state[name] !== ALL) p.set(name, state[name]);
    if (state.scale !== "errors") p.set("scale", state.scale);
    history.replaceState(null, "", `#${p}`);
  }

  // ---- the comparison
  function why(a, b) {
    if (!a || !b) return `not a number of ${a ? "B" : "A"}`;
    if (a.why || b.why) return [["A", a.why], ["B", b.why]].filter(([, w]) => w).map(([x, w]) => `${x}: ${w}`).join("; ");
    if (a.samples !== b.samples) return `other samples: A was scored on ${a.n}, B on ${b.n}; only equal ones are paired`;
    return "";
  }

  function compare(a, b) {
    const of = (content, place) => content.boards.find((x) => x.board === offered[place[0]].board)?.columns ?? [];
    const mine = new Map(of(a, state.a).map((c) => [c.id, c])), theirs = new Map(of(b, state.b).map((c) => [c.id, c]));
    const columns = new Map([...mine, ...theirs].map(([id, c]) => [id, c]));
    const measured = (c) => c?.value !== undefined;
    const shown = [...columns.values()].filter((c) => measured(mine.get(c.id)) || measured(theirs.get(c.id)));
    neither = columns.size - shown.length;
    return shown.map((c) => {
      const line = { ...c, a: mine.get(c.id), b: theirs.get(c.id) };
      line.why = why(line.a, line.b);
      if (!line.why) line.found = paired.difference(line.b, line.a);
      return line;
    });
  }

  const evaluationOf = (line) => line.group.split(" · ")[0];
  const fits = (line) => (state.evaluation === ALL || evaluationOf(line) === state.evaluation) && (state.explainer === ALL || line.explainer === state.explainer);

  function shown() {
    const lines = found.lines.filter(fits), counted = lines.filter((l) => l.found);
    const adjusted = paired.holm(counted.map((l) => l.found.p));
    counted.forEach((l, i) => (l.holm = adjusted[i]));
    return lines;
  }

  // ---- texts
  const signed = (v, digits) => (Number.isFinite(v) ? (v < 0 ? MINUS : "+") + Math.abs(v).toFixed(digits) : "n/a");
  const plain = (v, digits) => (v < 0 ? MINUS : "") + Math.abs(v).toFixed(digits);
  const interval = (low, high, text) => (Number.isFinite(low) && Number.isFinite(high) ? `[${text(low)}, ${text(high)}]` : "");
  const probability = (p) => (Number.isNaN(p) ? "n/a" : p < 0.001 ? "< 0.001" : p.toFixed(3));
  const better = (l) => (l.found.value > 0) === l.higher ? "B" : "A";
  const apart = (l) => l.found && l.holm < LEVEL;
  const verdict = (l) => (apart(l) ? `${better(l)} is better` : "not told apart");

  function element(tag, text, names = "") {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    if (names) made.className = names;
    return made;
  }

  function numberCell(text, rest) {
    const cell = element("td"), value = element("span", text, "v");
    cell.append(value);
    if (rest) cell.append(" ", element("span", rest, "ci"));
    return cell;
  }

  function row(l) {
    const tr = element("tr", "", apart(l) ? "apart" : ""), head = element("th");
    head.scope = "row";
    head.append(...l.metric.split("_").flatMap((part, i) => (i ? ["_", document.createElement("wbr"), part] : [part])));
    const arrow = element("span", l.higher ? "↑" : "↓", "arrow");
    arrow.setAttribute("aria-hidden", "true");
    head.append(arrow, element("span", `, ${l.higher ? "higher" : "lower"} is better`, "sr"), element("small", l.details));
    tr.append(head);
    for (const own of [l.a, l.b])
      tr.append(own?.value === undefined ? element("td", "–", "empty") : numberCell(plain(own.value, l.digits), interval(own.low ?? NaN, own.high ?? NaN, (v) => plain(v, l.digits))));
    if (l.why) {
      const reason = element("td", l.why, "left why");
      reason.colSpan = 4;
      tr.append(reason);
      return tr;
    }
    const text = (v) => signed(v, l.digits);
    tr.append(numberCell(text(l.found.value), interval(l.found.low, l.found.high, text)), element("td", probability(l.found.p)), element("td", probability(l.holm)), element("td", verdict(l), "left verdict"));
    return tr;
  }

  function table(lines) {
    const groups = new Map();
    for (const l of lines) groups.set(l.group, [...(groups.get(l.group) ?? []), l]);
    const shownTable = at("differences-table");
    [...shownTable.tBodies].forEach((body) => body.remove());
    shownTable.append(...[...groups].map(([name, members]) => {
      const body = element("tbody"), heading = element("tr", "", "heading"), th = element("th", name);
      th.scope = "rowgroup";
      th.colSpan = 7;
      heading.append(th);
      body.append(heading, ...members.map(row));
      return body;
    }));
  }

  // ---- the chart: one line per number; right of the middle B is better
  const markup = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  function chart(lines) {
    const counted = lines.filter((l) => l.found && Number.isFinite(l.found.low) && (l.found.error > 0 || l.found.value === 0));
    const names = counted.map((l) => markup(l.id));
    const measure = (l, v) => (state.scale === "errors" ? (l.found.error ? (l.higher ? v : -v) / l.found.error : 0) : v);
    const trace = (mine, name, tone, symbol) => {
      const x = mine.map((l) => measure(l, l.found.value)), ends = mine.map((l) => [l.found.low, l.found.high].map((v) => measure(l, v)).sort((p, q) => p - q));
      return { x, y: mine.map((l) => markup(l.id)), name, tone, symbol, mode: "markers", type: "scatter", hovertemplate: "%{text}<extra></extra>",
        text: mine.map((l) => `${markup(l.id)}<br>B ${MINUS} A: ${signed(l.found.value, l.digits)} ${interval(l.found.low, l.found.high, (v) => signed(v, l.digits))}<br>p (Holm) ${probability(l.holm).replace("<", "&lt;")}: ${verdict(l)}`),
        error_x: { type: "data", symmetric: false, array: ends.map(([, high], i) => Math.max(0, high - x[i])), arrayminus: ends.map(([low], i) => Math.max(0, x[i] - low)) } };
    };
    const figure = {
      height: 90 + 22 * counted.length,
      data: [trace(counted.filter(apart), "told apart (Holm, 0.05)", 0, "circle"), trace(counted.filter((l) => !apart(l)), "not told apart", "reference", "circle-open")],
      layout: {
        xaxis: { title: { text: state.scale === "errors" ? `difference in standard errors: A is better ← → B is better` : `B ${MINUS} A`, standoff: 6 } },
        yaxis: { type: "category", categoryorder: "array", categoryarray: names, autorange: "reversed", automargin: true, tickfont: { size: 11 } },
        shapes: [{ type: "line", x0: 0, x1: 0, y0: 0, y1: 1, yref: "paper", tone: "published", dash: "solid" }],
        margin: { l: 12, r: 12, t: 34, b: 44 },
      },
    };
    at("chart-part").hidden = !counted.length;
    if (!counted.length) return;
    const narrow = at("chart").clientWidth < 560;
    if (narrow && state.scale === "errors") figure.layout.xaxis.title.text = "← A better · B better →";
    harness.draw(at("chart"), figure);
  }

  // ---- pictures of the samples that both show
  function picture(one, what) {
    const box = element("span", "", "picture"), img = document.createElement("img");
    const kind = document.querySelector("input[name=kind]:checked").value;
    Object.assign(img, { alt: what, width: 120, height: 120, src: one.heat ? one[kind] : one.image });
    if (one.heat) Object.assign(img.dataset, { overlay: one.overlay, heat: one.heat });
    box.append(img);
    if (one.boxes.length) {
      const space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
      for (const [k, v] of [["viewBox", "0 0 100 100"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) svg.setAttribute(k, v);
      for (const b of one.boxes) {
        const rect = document.createElementNS(space, "rect");
        for (const [k, v] of [["x", b.x], ["y", b.y], ["width", b.w], ["height", b.h]]) rect.setAttribute(k, v);
        svg.append(rect);
      }
      box.append(svg);
    }
    return box;
  }

  function samples(a, b) {
    const key = (s) => JSON.stringify([s.explainer, s.id, s.class]), theirs = new Map(b.pictures.map((s) => [key(s), s]));
    const both = a.pictures.filter((s) => theirs.has(key(s)));
    at("pictures-part").hidden = !both.length;
    const lacking = [["A", a], ["B", b]].filter(([, r]) => !r.pictures.length).map(([name]) => name);
    at("no-pictures").textContent = both.length ? "" : lacking.length ? `No pictures of ${lacking.join(" and ")}: published records hold numbers, never images.` : "The two have no sample of an explainer in common.";
    at("samples").replaceChildren(...both.map((s) => {
      const tr = element("tr"), head = element("th", s.class), t = theirs.get(key(s));
      head.scope = "row";
      head.append(element("small", s.id), element("small", s.explainer));
      const cell = (one, what) => {
        const td = element("td");
        td.append(picture(one, `${what}${what ? ", " : ""}${s.class}, sample ${s.id}`));
        if (one.heat) td.append(element("small", one.caption));
        return td;
      };
      tr.append(head, cell({ image: s.image, boxes: s.boxes }, ""), cell(s, `${s.explainer} of A`), cell(t, `${s.explainer} of B`));
      return tr;
    }));
  }

  // ---- showing
  function say() {
    const lines = shown(), counted = lines.filter((l) => l.found), told = counted.filter(apart);
    const wins = (x) => told.filter((l) => better(l) === x).length;
    const rest = lines.length - counted.length;
    at("said").textContent = state.lost.length ? `Not in this report: ${state.lost.join(", ")}.`
      : same(state.a, state.b) ? "A and B are the same run: every difference is 0. Choose another."
      : state.a[0] !== state.b[0] ? `A is on the board ${offered[state.a[0]].board}, B on ${offered[state.b[0]].board}. Numbers of different boards are never compared: choose two runs of one board.`
      : `${counted.length} number${counted.length === 1 ? "" : "s"} compared${rest ? `, ${rest} not` : ""}: B is better in ${wins("B")}, A in ${wins("A")}, ${counted.length - told.length} not told apart.`;
    const comparable = state.a[0] === state.b[0] && !same(state.a, state.b) && !state.lost.length;
    at("neither").textContent = neither ? `${neither} more number${neither === 1 ? "" : "s"} of this board: measured of neither.` : "";
    at("result").hidden = !comparable;
    if (!comparable) return;
    table(lines);
    chart(lines);
  }

  function options(name, values) {
    if (!values.includes(state[name])) state[name] = ALL;
    at(name).replaceChildren(...[ALL, ...values].map((v) => new Option(v === ALL ? SHOWN[name] : v, v)));
    at(name).value = state[name];
    at(name).closest("label").hidden = values.length < 2;
  }

  async function all() {
    const mine = ++asked, [a, b] = [run(state.a), run(state.b)];
    for (const [name, chooser] of Object.entries(choosers)) chooser.value = state[name].join();
    for (const name of ["a", "b"]) {
      at(`page-${name}`).href = run(state[name]).page;
      at(`page-${name}`).textContent = run(state[name]).id;
      document.querySelectorAll(`[data-name=${name}]`).forEach((x) => (x.textContent = run(state[name]).text));
    }
    const contents = await Promise.all([a, b].map(content));
    if (mine !== asked) return;
    const lines = contents.every(Boolean) && state.a[0] === state.b[0] ? compare(...contents) : [];
    found = { lines };
    options("evaluation", [...new Set(lines.map(evaluationOf))]);
    options("explainer", [...new Set(lines.map((l) => l.explainer).filter(Boolean))]);
    document.querySelectorAll("input[name=scale]").forEach((x) => (x.checked = x.value === state.scale));
    if (!state.lost.length) save();
    say();
    if (contents.every(Boolean)) samples(...contents);
    document.body.dataset.shown = `${a.id} ${b.id}`;
  }

  async function content(entry) {
    const table = (globalThis.harnessDraws ??= {});
    if (!Object.hasOwn(table, entry.id)) await harness.load(entry.file);
    return table[entry.id];
  }

  // ---- events
  for (const [name, chooser] of Object.entries(choosers)) {
    chooser.replaceChildren(...offered.map((board, i) => {
      const group = document.createElement("optgroup");
      group.label = board.board;
      group.append(...board.runs.map((r, j) => new Option(r.text, `${i},${j}`)));
      return group;
    }));
    chooser.addEventListener("change", () => { state[name] = chooser.value.split(",").map(Number); state.lost = []; all(); });
  }
  at("swap").addEventListener("click", () => { [state.a, state.b] = [state.b, state.a]; state.lost = []; all(); });
  for (const name of Object.keys(SHOWN)) at(name).addEventListener("change", (e) => { state[name] = e.target.value; save(); say(); });
  document.querySelectorAll("input[name=scale]").forEach((x) => x.addEventListener("change", () => { state.scale = x.value; save(); say(); }));
  const records = () => shown().map((l) => ({ run_a: run(state.a).id, run_b: run(state.b).id, number: l.id, unit: l.unit, higher_is_better: l.higher, a: l.a?.value ?? null, b: l.b?.value ?? null,
    difference: l.found?.value ?? null, low: number(l.found?.low), high: number(l.found?.high), p: number(l.found?.p), p_holm: l.found ? number(l.holm) : null, note: l.why }));
  const number = (v) => (Number.isFinite(v) ? v : null);
  at("csv").addEventListener("click", () => {
    const rows = records(), columns = Object.keys(rows[0] ?? {});
    harness.download("comparison.csv", "text/csv;charset=utf-8", harness.csv([columns, ...rows.map((r) => columns.map((c) => r[c]))]));
  });
  at("json").addEventListener("click", () => harness.download("comparison.json", "application/json", JSON.stringify({ board: offered[state.a[0]].board, rows: records() }, null, 1)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => found && say());
  addEventListener("hashchange", () => { load(); all(); });
  harness.pictures();
  load();
  all();
})();
