"use strict";
// A run's page: charts in the page's colours, light or dark, and the gallery's switches.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const draw = harness.draw;

  function all() {
    draw(document.getElementById("training-chart"), charts.training);
    draw(document.getElementById("auroc"), charts.auroc);
    for (const target of document.querySelectorAll("[data-panel]"))
      draw(target, { ...charts.localisation.panels[target.dataset.panel], height: 220 }, {
        showlegend: false, margin: { l: 34, r: 6, t: 6, b: 34 },
        xaxis: { title: { text: "T(IoU)", standoff: 4 }, dtick: 0.1, tickangle: 0 }, yaxis: { range: [-0.02, 1.02], dtick: 0.25 },
      });
  }

  harness.pictures();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  all();
})();
