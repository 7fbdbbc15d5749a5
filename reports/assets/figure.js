"use strict";
// A board's figure: charts, what of them is shown, and downloads of all their numbers.
(() => {
  const page = JSON.parse(document.getElementById("figure").textContent);
  const boxes = [...document.querySelectorAll("input[data-group]")];
  const variants = [...document.querySelectorAll("input[name=variant]")];

  function visible(trace, hidden, variant) {
    if (trace.variant !== undefined && trace.variant !== variant) return false;
    return !(trace.groups ?? []).some((g) => hidden.has(g));
  }

  function all() {
    const hidden = new Set(boxes.filter((b) => !b.checked).map((b) => b.dataset.group));
    const variant = variants.find((v) => v.checked)?.value ?? "";
    const of = (figure) => ({ ...figure, data: figure.data.map((t) => ({ ...t, visible: visible(t, hidden, variant) })) });
    document.querySelectorAll("[data-chart]").forEach((target) => {
      harness.draw(target, of(page.charts[target.dataset.chart]));
    });
    document.querySelectorAll("[data-variant]").forEach((part) => (part.hidden = part.dataset.variant !== variant));
  }

  [...boxes, ...variants].forEach((input) => input.addEventListener("change", all));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  const on = (id, act) => document.getElementById(id)?.addEventListener("click", act);
  on("csv", () => {
    const columns = [...new Set(page.records.flatMap((r) => Object.keys(r)))];
    harness.download(`${page.name}.csv`, "text/csv;charset=utf-8", harness.csv([columns, ...page.records.map((r) => columns.map((c) => r[c]))]));
  });
  on("json", () => harness.download(`${page.name}.json`, "application/json", JSON.stringify({ board: page.board, rows: page.records }, null, 1)));
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
