"use strict";
// A board's figure: charts, what of them is shown, and downloads of all their numbers.
(() => {
  const page = JSON.parse(document.getElementById("figure").textContent);
  const boxes = [...document.querySelectorAll("input[data-group]")];
  const variants = [...document.querySelectorAll("input[name=variant]")];
  const choices = [...document.querySelectorAll("[data-choice]")];
  const chosen = () => Object.fromEntries(choices.filter((c) => c.type !== "radio" || c.checked).map((c) => [c.dataset.choice, c.value]));
  const meets = (when, now) => Object.entries(when ?? {}).every(([k, v]) => now[k] === v);

  function visible(trace, hidden, variant, now) {
    if ((trace.variant !== undefined && trace.variant !== variant) || !meets(trace.when, now)) return false;
    return !(trace.groups ?? []).some((g) => hidden.has(g));
  }

  // A step curve is the band around it, its area above `naive` where asked for, its line, and a dot at 0.
  function drawn(trace, now) {
    if (!trace.steps) return [trace];
    const { steps, band, label, dash, name: _, ...own } = trace, { zero, naive } = steps;
    const at = (x) => (now.axis === "log" ? Math.max(x, zero) : x);
    const between = (x, top, bottom) => {
      const places = x.flatMap((v, i) => (i ? [[v, i - 1], [v, i]] : [[v, i]]));
      const back = [...places].reverse();
      return { x: [...places, ...back].map(([v]) => at(v)), y: [...places.map(([, i]) => top[i]), ...back.map(([, i]) => bottom[i])],
        ...own, mode: "lines", fill: "toself", hoverinfo: "skip", line: { width: 0 } };
    };
    const found = band ? [between(band.x, band.high, band.low)] : [];
    if (own.groups.includes(now.area) && now.axis === "linear") {
      const above = steps.y.map((y) => Math.max(y, naive)), end = above.findIndex((y) => y === naive);
      const many = end < 0 ? above.length : end + 1;
      found.push({ ...between(steps.x.slice(0, many), above, above.map(() => naive)), fillpattern: { shape: "/", size: 7, solidity: 0.14 } });
    }
    const shown = { ...own, text: label, hovertemplate: "%{text}<br>RMSE %{customdata:.4g}: %{y:.3f}<extra></extra>" };
    return [...found,
      { ...shown, x: steps.x.map(at), y: steps.y, customdata: steps.x, mode: "lines", line: { shape: "hv", dash } },
      { ...shown, x: [at(0)], y: [steps.y[0]], customdata: [0], mode: "markers", cliponaxis: false }];
  }

  // The lines of the download that a step curve and its band are.
  function lines(trace) {
    const { steps, band, name, when } = trace, place = { kind: "run", name, goal: when.goal, class_name: when.class };
    return [...steps.x.map((radius, i) => ({ ...place, metric: "accuracy over radius", radius, value: steps.y[i] })),
      ...(band?.x ?? []).map((radius, i) => ({ ...place, metric: "band of accuracy over radius", radius, low: band.low[i], high: band.high[i], bar: band.bar }))];
  }

  function all() {
    const now = chosen();
    const hidden = new Set(boxes.filter((b) => !b.checked).map((b) => b.dataset.group));
    const variant = variants.find((v) => v.checked)?.value ?? "";
    const of = (figure) => ({ ...figure, data: figure.data.flatMap((t) => (meets(t.when, now) ? drawn(t, now) : [])).map((t) => ({ ...t, visible: visible(t, hidden, variant, now) })) });
    document.querySelectorAll("[data-chart]").forEach((target) => {
      const figure = page.charts[target.dataset.chart];
      harness.draw(target, of(figure), figure.layouts?.find((x) => meets(x.when, now))?.layout);
    });
    document.querySelectorAll("[data-variant]").forEach((part) => (part.hidden = part.dataset.variant !== variant));
    document.querySelectorAll("[data-when]").forEach((part) => (part.hidden = !meets(JSON.parse(part.dataset.when), now)));
  }

  [...boxes, ...variants, ...choices].forEach((input) => input.addEventListener("change", all));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  const on = (id, act) => document.getElementById(id)?.addEventListener("click", act);
  const records = () => [...page.records, ...Object.values(page.charts).flatMap((c) => c.data.filter((t) => t.steps).flatMap(lines))];
  on("csv", () => {
    const rows = records(), columns = [...new Set(rows.flatMap((r) => Object.keys(r)))];
    harness.download(`${page.name}.csv`, "text/csv;charset=utf-8", harness.csv([columns, ...rows.map((r) => columns.map((c) => r[c]))]));
  });
  on("json", () => harness.download(`${page.name}.json`, "application/json", JSON.stringify({ board: page.board, rows: records() }, null, 1)));
  for (const chooser of document.querySelectorAll("select[data-chooser]")) {
    const choose = () => document.querySelectorAll(`[data-of="${chooser.dataset.chooser}"]`).forEach((part) => (part.hidden = part.dataset.choice !== chooser.value));
    chooser.addEventListener("change", choose);
    choose();
  }
  const slider = document.getElementById("shown");
  const slide = () => {
    slider.setAttribute("aria-valuetext", `${slider.value} % changed, ${100 - slider.value} % original`);
    document.querySelector(".explanations").style.setProperty("--cut", `${100 - slider.value}%`);
  };
  slider?.addEventListener("input", slide);
  if (slider) slide();
  harness.pictures();
  all();
})();
