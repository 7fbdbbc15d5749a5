"use strict";
// The table as it is shown, as CSV, JSON, LaTeX and Markdown.
// `shown` is { board, columns, rows }; a row has kind, name, model, settings, seeds, runs, flags, source and cells.
harness.takeaway = (() => {
  const PARTS = ["value", "low", "high", "n", "rank_group", "note"];
  const part = (c) => ({ value: c.value, low: c.low, high: c.high, n: c.n, rank_group: c.group, note: c.note });
  const single = (text) => String(text).split(/\s+/).filter(Boolean).join(" ");

  function json({ board, columns, rows }) {
    const metrics = (cells) => Object.fromEntries(columns.map((c, k) => [c.label, part(cells[k])]));
    const own = rows.map(({ cells, each, ...row }) => ({ ...row, metrics: metrics(cells), ...(each && { by_seed: each.map((s) => ({ run: s.run, seed: s.seed, metrics: metrics(s.cells) })) }) }));
    return JSON.stringify({ board, rows: own }, null, 1) + "\n";
  }

  function csv({ columns, rows }) {
    const titles = columns.flatMap((c) => PARTS.map((p) => (p === "value" ? c.label : `${c.label} ${p}`)));
    const head = ["kind", "name", "model", "settings", "seeds", "runs", "flags", "source", ...titles];
    const lines = rows.map((r) => [r.kind, r.name, r.model, r.settings, r.seeds.join("; "), r.runs.join("; "), r.flags.join("; "), r.source,
      ...r.cells.flatMap((c) => { const all = part(c); return PARTS.map((p) => all[p]); })]);
    return harness.csv([head, ...lines]);
  }

  // ---- LaTeX: every character that means something to TeX is written as one that means itself
  const TEX = { "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%", "_": "\\_",
    "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}",
    '"': "\\textquotedbl{}", "'": "\\textquotesingle{}", "`": "\\textasciigrave{}", "-": "{-}", "[": "{[}", "]": "{]}", "*": "{*}",
    "↑": "$\\uparrow$", "↓": "$\\downarrow$", "≤": "$\\le$", "·": "\\textperiodcentered{}" };
  const tex = (text) => [...single(text)].filter((ch) => ch >= " " && ch !== "\u007f").map((ch) => TEX[ch] ?? ch).join("");
  const number = (text) => text.replace("-", "$-$");

  function latexCell(c) {
    if (c.value === null) return c.text ? tex(c.text) : "";
    const interval = c.interval ? ` {\\scriptsize{}${number(c.interval.split(", ")[0])}, ${number(c.interval.split(", ")[1])}}` : "";
    return `${number(c.text)}${interval}${c.group ? `\\textsuperscript{${c.group}}` : ""}`;
  }

  function latex({ board, columns, rows, said }) {
    const line = (cells) => `  ${cells.join(" & ")} \\\\`;
    const head = ["method", "settings", "seeds", ...columns.map((c) => `${c.metric} ${c.higher ? "↑" : "↓"}`)];
    const below = ["", "", "", ...columns.map((c) => c.details)];
    const out = ["% needs \\usepackage{booktabs} and \\usepackage{textcomp}", `% ${single(board)}`,
      `\\begin{tabular}{lll${"r".repeat(columns.length)}}`, "  \\toprule", line(head.map(tex)), line(below.map(tex)), "  \\midrule"];
    rows.forEach((r, k) => {
      if (k && group(r) !== group(rows[k - 1])) out.push("  \\midrule");
      const name = r.kind === "seed" ? `\\quad{}seed ${r.seeds[0]}` : tex(r.name) + (r.kind === "published" ? " (published)" : r.kind === "reference" ? " (reference)" : "");
      out.push(line([name, r.kind === "seed" ? "" : tex(r.settings), tex(r.seeds.join(", ")), ...r.cells.map(latexCell)]));
    });
    out.push("  \\bottomrule", "\\end{tabular}", "% superscript: rank group; brackets: 95 % interval");
    if (said) out.push(`% ${single(said)}`);
    const sources = new Set(rows.filter((r) => r.kind === "published").map((r) => `% ${single(r.name)}: ${single(r.source)}`));
    return [...out, ...sources].join("\n") + "\n";
  }
  const group = (r) => (r.kind === "seed" ? "line" : r.kind);

  // ---- Markdown: as harness.report.names.markdown_text
  function md(text) {
    const line = single(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
    return /[\\`*[\]|~]/.test(line) ? line.replace(/[\\`*_[\]|~]/g, "\\$&") : line;
  }

  function markdown({ board, columns, rows, said }) {
    const head = ["method", "model", "settings", "seeds", ...columns.map((c) => `${md(c.label)} ${c.higher ? "↑" : "↓"}`), "notes"];
    const lines = rows.map((r) => [
      r.kind === "seed" ? `seed ${r.seeds[0]}` : r.kind === "line" ? md(r.name) : `*${md(r.name)}*`, md(r.model), md(r.settings), r.seeds.join(", "),
      ...r.cells.map((c) => `${c.text}${c.value === null ? "" : `${c.interval ? ` ${c.interval}` : ""}${c.n === null ? "" : `, n=${c.n}`}${c.group ? `, group ${c.group}` : ""}`}${c.value === null && c.note ? ` (${md(c.note)})` : ""}`),
      r.kind === "published" ? `published: ${md(r.source)}` : r.kind === "reference" ? "reference: needs no model" : md(r.flags.join(", ")),
    ]);
    const table = [head, head.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |`);
    return [`## ${md(board)}`, "", ...table, "", ...(said ? [md(said), ""] : [])].join("\n");
  }

  return { json, csv, latex, markdown };
})();
