"use strict";
// A run's page: charts in the page's colours, light or dark, and the gallery's switches.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const tone = (t) => css(`--tone-${t === "reference" ? t : t % 6}`);
  const config = { responsive: true, displayModeBar: false };

  function axis(own) {
    return { gridcolor: css("--line"), linecolor: css("--line"), zeroline: false, automargin: true, fixedrange: true, ...own };
  }

  function draw(target, figure, extra) {
    if (!target || !figure || typeof Plotly === "undefined") return;
    const data = figure.data.map((t) => ({
      ...t, line: { color: tone(t.tone), width: 2, ...t.line }, marker: { color: tone(t.tone), size: 6 },
      ...(t.error_x ? { error_x: { ...t.error_x, color: tone(t.tone), thickness: 1.5, width: 0 } } : {}),
    }));
    const own = figure.layout ?? {};
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 44, r: 12, t: 8, b: 40 },
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--muted") },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, hovermode: "closest", height: figure.height, ...own, ...extra,
      xaxis: axis({ ...own.xaxis, ...extra?.xaxis }), yaxis: axis({ ...own.yaxis, ...extra?.yaxis }),
      shapes: (own.shapes ?? []).map((s) => ({ ...s, layer: "below", line: { color: tone(s.tone), width: 1, dash: "dot" } })),
    };
    Plotly.react(target, data, layout, config);
  }

  function all() {
    draw(document.getElementById("training-chart"), charts.training);
    draw(document.getElementById("auroc"), charts.auroc);
    for (const target of document.querySelectorAll("[data-panel]"))
      draw(target, { ...charts.localisation.panels[target.dataset.panel], height: 220 }, {
        showlegend: false, margin: { l: 34, r: 6, t: 6, b: 34 },
        xaxis: { title: { text: "T(IoU)", standoff: 4 }, dtick: 0.1, tickangle: 0 }, yaxis: { range: [-0.02, 1.02], dtick: 0.25 },
      });
  }

  document.querySelectorAll("input[name=kind]").forEach((radio) => radio.addEventListener("change", () => {
    document.querySelectorAll("img[data-heat]").forEach((img) => (img.src = img.dataset[radio.value]));
  }));
  document.getElementById("boxes")?.addEventListener("change", (e) =>
    document.querySelector(".pictures").classList.toggle("no-boxes", !e.target.checked));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  all();
})();
