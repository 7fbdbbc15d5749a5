"use strict";
// One board's table as HTML, drawn from its data: only the lines and columns that are shown.
harness.table = (() => {
  const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  const esc = (text) => String(text).replace(/[&<>"']/g, (c) => ENTITIES[c]);
  const breakable = (text) => esc(text).replaceAll("_", "_<wbr>");
  const arrow = (higher) => `<span class="arrow" aria-hidden="true">${higher ? "↑" : "↓"}</span><span class="sr">, ${higher ? "higher" : "lower"} is better</span>`;

  // a cell of the data, by name
  const cell = (c, texts) => ({ text: c[0], title: texts[c[1]], mark: c[2], note: texts[c[3]], interval: c[4] ?? "", value: c[5] ?? null,
    low: c[6] ?? null, high: c[7] ?? null, n: c[8] ?? null, group: c[9] ?? null, below: Boolean(c[10]) });

  function place(column, value) {
    const span = column.high - column.low;
    return Math.round(1000 * Math.min(1, Math.max(0, span > 0 ? (value - column.low) / span : 0.5))) / 10;
  }

  function whisker(c, column) {
    const low = place(column, c[6] ?? c[5]), high = place(column, c[7] ?? c[5]);
    const bar = column.reference === null ? "" : `;--r:${place(column, column.reference)}%`;
    return `<i class="w${bar ? " has-ref" : ""}" style="--a:${low}%;--b:${Math.round(10 * (high - low)) / 10}%;--p:${place(column, c[5])}%${bar}"></i>`;
  }

  function td(c, column, i, bars) {
    const mark = c[2] ? `<sup>${esc(c[2])}</sup>` : "";
    if (c.length < 6) return `<td class="n empty" data-c="${i}" tabindex="-1">${esc(c[0])}${mark}</td>`;
    const group = c[9] ? `<span class="g${c[9] === 1 ? " g1" : ""}"><span class="sr">rank group </span>${c[9]}</span>` : "";
    return `<td class="n${c[10] ? " below" : ""}" data-c="${i}" tabindex="-1">${group}<span class="v">${esc(c[0])}</span>${mark}${c[10] ? '<span class="ref">≤ ref</span>' : ""}` +
      `${c[4] ? ` <span class="ci">${esc(c[4])}</span>` : ""}${bars ? whisker(c, column) : ""}</td>`;
  }

  const badges = (flags, data) => (flags.length ? `<span class="badges">${flags.map((f) => `<span class="badge ${esc(data.flags[f][2])}">${esc(data.flags[f][0])}</span>`).join("")}</span>` : "");

  function head(data, columns, sort, down) {
    const said = (key) => (sort === key ? ` aria-sort="${down ? "descending" : "ascending"}"` : "");
    const word = (key, kind, text) => `<th scope="col" class="${kind}"${said(key)}><button type="button" data-sort="${key}">${text ?? key}</button></th>`;
    return `<thead><tr>${word("method", "name")}${word("model", "text")}${word("seeds", "seed")}${columns.map((i) => {
      const c = data.columns[i];
      return `<th scope="col" class="n"${said(i)}><button type="button" data-sort="${i}" title="${esc(about(c))}"><span>${breakable(c.metric)}${arrow(c.higher)}</span><small>${esc(c.details)}</small></button></th>`;
    }).join("")}</tr></thead>`;
  }

  const about = (c) => `${c.evaluation}: ${c.label}${c.unit ? `, ${c.unit}` : ""}. Whiskers: the dot is the value, the bar its 95 % interval, from ${c.ends}` +
    `${c.reference === null ? "" : `; thin line: the best reference row`}.`;

  function line(data, i, columns, open, bars) {
    const x = data.lines[i], several = x.runs.length > 1, own = x.flags.filter((f) => !data.common.includes(f));
    const who = several ? `<span class="who">${breakable(x.method)}</span>` : `<a class="who" href="${esc(x.runs[0].page)}" title="${esc(x.runs[0].id)}">${breakable(x.method)}</a>`;
    const small = [x.settings && `<small>${esc(x.settings)}</small>`, x.older && "<small>older runs of these seeds</small>",
      `<small class="phone">${breakable(x.model)}${several ? "" : `, seed ${x.runs[0].seed}`}</small>`].filter(Boolean).join("");
    const more = several ? `<button type="button" class="more" data-open="${i}" aria-expanded="${open}">${x.runs.length} seeds</button>` : "";
    const seeds = several ? x.runs.length : `1<small>seed ${x.runs[0].seed}</small>`;
    const first = `<tr class="line" data-i="${i}"><th scope="row" class="name" tabindex="-1">${who}${small}${more}${badges(own, data)}</th><td class="text">${breakable(x.model)}</td><td class="seed">${seeds}</td>` +
      `${columns.map((k) => td(x.cells[k], data.columns[k], k, bars)).join("")}</tr>`;
    return open && several ? first + x.runs.map((r, s) => seed(data, x, i, r, s, columns, bars)).join("") : first;
  }

  function seed(data, x, i, r, s, columns, bars) {
    const own = r.flags.filter((f) => !data.common.includes(f));
    return `<tr class="one-seed" data-i="${i}" data-s="${s}"><th scope="row" class="name" tabindex="-1"><a href="${esc(r.page)}" title="${esc(r.id)}"><span class="sr">${esc(x.method)}, </span>seed ${r.seed}</a>${badges(own, data)}</th><td class="text"></td><td class="seed">${r.seed}</td>` +
      `${columns.map((k) => td(r.cells[k], data.columns[k], k, bars)).join("")}</tr>`;
  }

  function others(data, kind, list, title, name, columns, bars, extra = "") {
    if (!list.length) return "";
    return `<tbody class="${kind}"><tr class="heading"><th colspan="${3 + columns.length}" scope="rowgroup"><span>${title}${extra}</span></th></tr>` +
      list.map((i) => `<tr data-kind="${kind}" data-i="${i}">${name(data[kind][i])}<td class="text"></td><td class="seed"></td>${columns.map((k) => td(data[kind][i].cells[k], data.columns[k], k, bars && kind === "references")).join("")}</tr>`).join("") + "</tbody>";
  }

  function html(data, view) {
    const { columns, order, open, sort, down, bars, references, published, hidden } = view;
    const more = hidden || published.length > view.few ? ` <button type="button" class="more" data-published aria-expanded="${!hidden}">${hidden ? `show ${hidden} more` : "show fewer"}</button>` : "";
    return `<table class="leaderboard" style="--columns:${columns.length}">${head(data, columns, sort, down)}` +
      `<tbody class="lines">${order.map((i) => line(data, i, columns, open(i), bars)).join("")}</tbody>` +
      others(data, "references", references, "Reference rows. No explainer below the best of them is worth reading.", (x) => `<th scope="row" class="name" tabindex="-1">${esc(x.name)}<small>needs no model</small></th>`, columns, bars) +
      others(data, "published", published, "Published by others, under other conditions: never ranked.", (x) =>
        `<th scope="row" class="name" tabindex="-1"><span class="who">${esc(x.name)}</span><small class="conditions"><span class="badge note">${esc(x.mark)}</span>published${x.year ? ` ${esc(x.year)}` : ""}, source ${x.number}${x.conditions ? `; split: ${esc(x.conditions)}` : ""}</small></th>`, columns, bars, more) + "</table>";
  }

  return { html, cell, about };
})();
