"use strict";
// What the scripts of several pages share: charts in the page's colours, the switches of galleries, downloads.
const harness = (() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const tone = (t) => css(`--tone-${typeof t === "number" ? t % 10 : t}`);
  const config = { responsive: true, displayModeBar: false };
  const NARROW = 560, LONGEST = 28; // px of a chart; characters of a category's name in it

  function axis(own) {
    return { gridcolor: css("--line"), linecolor: css("--line"), zeroline: false, automargin: true, fixedrange: true, ...own };
  }

  // An axis of a narrow chart: few upright numbers, titles on two lines, names cut in the middle (a name is told whole when pointed at).
  function narrowed(own) {
    const cut = (name) => (name.length > LONGEST ? `${name.slice(0, 12)}…${name.slice(-15)}` : name);
    const title = own?.title ? { ...own.title, text: own.title.text.replace(", ", ",<br>") } : undefined;
    if (!own?.categoryarray) return { nticks: 5, tickangle: 0, ...own, title };
    return { ...own, title, tickvals: own.categoryarray, ticktext: own.categoryarray.map(cut) };
  }

  function trace(t) {
    const color = tone(t.tone), { symbol, groups, variant, when, tone: _, ...own } = t;
    const bars = (name) => (own[name] ? { [name]: { ...own[name], color, thickness: 1.5, width: 0 } } : {});
    if (own.fillpattern) own.fillpattern = { fgcolor: color, bgcolor: "rgba(0,0,0,0)", ...own.fillpattern };
    else if (own.fill) own.fillcolor = `${color}26`;
    return { ...own, line: { color, width: 2, ...own.line }, marker: { color, size: 7, symbol: symbol || "circle" }, ...bars("error_x"), ...bars("error_y") };
  }

  function shape(s) {
    if (s.type === "rect") return { ...s, layer: "below", fillcolor: tone(s.tone), line: { width: 0 } };
    const { dash = "dot", ...own } = s;
    return { ...own, layer: "between", line: { color: tone(s.tone), width: 1, dash } };
  }

  function draw(target, figure, extra) {
    if (!target || !figure || typeof Plotly === "undefined") return;
    const given = figure.layout ?? {}, narrow = target.clientWidth && target.clientWidth < NARROW;
    const own = narrow ? { ...given, xaxis: narrowed(given.xaxis), yaxis: narrowed(given.yaxis) } : given;
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 44, r: 12, t: 8, b: 40 },
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--muted") },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, hovermode: "closest", height: figure.height, ...own, ...extra,
      xaxis: axis({ ...own.xaxis, ...extra?.xaxis }), yaxis: axis({ ...own.yaxis, ...extra?.yaxis }),
      shapes: (own.shapes ?? []).map(shape),
    };
    Plotly.react(target, figure.data.map(trace), layout, config);
  }

  function pictures() {
    document.querySelectorAll("input[name=kind]").forEach((radio) => radio.addEventListener("change", () => {
      document.querySelectorAll("img[data-heat]").forEach((img) => (img.src = img.dataset[radio.value]));
    }));
    document.getElementById("boxes")?.addEventListener("change", (e) =>
      document.querySelectorAll(".pictures").forEach((s) => s.classList.toggle("no-boxes", !e.target.checked)));
  }

  function field(v) {
    let text = v === null || v === undefined ? "" : String(v);
    if (typeof v === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text; // a spreadsheet would run it
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  const csv = (rows) => rows.map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";

  function download(name, type, content) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // A script that a page asks for later, by its address from the page: resolves when it has run, or could not.
  function load(address) {
    if (globalThis.harnessFile) return globalThis.harnessFile(address); // a report in a single file
    return new Promise((done) => {
      const script = document.createElement("script");
      Object.assign(script, { src: address, onload: done, onerror: done });
      document.head.append(script);
    });
  }

  addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach((d) => (d.open = true))); // paper cannot be unfolded

  return { draw, pictures, csv, download, load };
})();
