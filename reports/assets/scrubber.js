"use strict";
// Insertion and deletion of one image, step by step: the picture of a step is put together here, from the image, its
// baseline and the step at which each cell changes. Nothing is read back from a canvas: pages opened from disk may not.
(() => {
  const part = document.querySelector(".scrubber");
  if (!part) return;
  const explainers = JSON.parse(document.getElementById("scrubber-data").textContent);
  const at = (name) => part.querySelector(`[data-part=${name}]`);
  const slider = at("step"), out = at("said");
  const DIRECTIONS = ["deletion", "insertion"];
  const loaded = new Map();

  function picture(address) {
    if (!loaded.has(address))
      loaded.set(address, new Promise((done) => {
        const image = new Image();
        image.onload = () => done(image);
        image.onerror = () => done(null);
        image.src = address;
      }));
    return loaded.get(address);
  }

  // Cells of 0 or 1, resized bilinearly as torch's interpolate does, with or without aligned corners.
  function mask(cells, { resolution: side, aligned }, width, height) {
    const made = new ImageData(width, height);
    const place = (i, size) => {
      const x = aligned ? (i * (side - 1)) / Math.max(1, size - 1) : Math.max(0, ((i + 0.5) * side) / size - 0.5), low = Math.min(Math.floor(x), side - 1);
      return [low, Math.min(low + 1, side - 1), x - low];
    };
    const columns = Array.from({ length: width }, (_, i) => place(i, width));
    for (let y = 0; y < height; y++) {
      const [top, bottom, down] = place(y, height);
      for (let x = 0; x < width; x++) {
        const [left, right, along] = columns[x];
        const row = (r) => cells[r * side + left] * (1 - along) + cells[r * side + right] * along;
        made.data[4 * (y * width + x) + 3] = Math.round(255 * (row(top) * (1 - down) + row(bottom) * down));
      }
    }
    return made;
  }

  function compose(canvas, over, under, cells, drawn) {
    const width = (canvas.width = over.naturalWidth), height = (canvas.height = over.naturalHeight);
    const pen = canvas.getContext("2d");
    pen.putImageData(mask(cells, drawn, width, height), 0, 0);
    pen.globalCompositeOperation = "source-in"; // the image where the mask is
    pen.drawImage(over, 0, 0);
    pen.globalCompositeOperation = "destination-over"; // the baseline where it is not
    pen.drawImage(under, 0, 0, width, height);
  }

  const share = (curve, step) => curve.counts[step] / curve.counts[curve.counts.length - 1];
  const points = (curve, direction) => curve[direction].map((p, i) => `${(100 * share(curve, i)).toFixed(2)},${(100 - 100 * p).toFixed(2)}`).join(" ");

  function options(select, names) {
    const before = select.selectedIndex;
    select.replaceChildren(...names.map((name, i) => new Option(name, i)));
    select.selectedIndex = Math.min(Math.max(before, 0), names.length - 1);
  }

  const explainer = () => explainers[at("explainer").value];
  const sample = () => explainer().samples[at("sample").value];
  const curve = () => sample().curves[at("cells").value];

  async function show() {
    const now = sample(), drawn = curve(), step = Number(slider.value);
    const images = await Promise.all([now.image, now.baseline, now.deleted].map(picture));
    if (now !== sample() || drawn !== curve() || step !== Number(slider.value)) return; // somebody moved on
    const [image, baseline, deleted] = images;
    const changed = drawn.steps.map((s) => (s <= step ? 1 : 0));
    if (image && baseline && deleted) {
      compose(at("insertion"), image, baseline, changed, drawn);
      compose(at("deletion"), image, deleted, changed.map((c) => 1 - c), drawn);
    }
    for (const direction of DIRECTIONS) {
      const p = drawn[direction][step];
      at(`${direction}-p`).textContent = `p ${p.toFixed(3)}`;
      part.querySelector(`.${direction} path`).setAttribute("d", `M${100 * share(drawn, step)} ${100 - 100 * p}h0`);
    }
    const text = `Step ${step} of ${drawn.counts.length - 1}: ${Math.round(100 * share(drawn, step))} % of the cells; deletion ${drawn.deletion[step].toFixed(2)}, insertion ${drawn.insertion[step].toFixed(2)}`;
    out.textContent = text;
    slider.setAttribute("aria-valuetext", text);
    part.dataset.step = step;
  }

  function choose() {
    options(at("sample"), explainer().samples.map((s) => s.name));
    options(at("cells"), sample().curves.map((c) => `${c.resolution} × ${c.resolution}`));
    const now = sample(), drawn = curve();
    slider.max = drawn.counts.length - 1;
    at("map").src = now.map || now.image;
    at("map").alt = `Map of ${explainer().explainer} for ${now.class_name}`;
    for (const direction of DIRECTIONS) {
      part.querySelector(`.${direction} polyline`).setAttribute("points", points(drawn, direction));
      const area = drawn[`${direction}_area`];
      at(`${direction}-area`).textContent = area === null ? "" : `area ${area.toFixed(3)}`;
    }
    show();
  }

  options(at("explainer"), explainers.map((e) => e.explainer + (e.reference ? " (reference)" : "")));
  for (const name of ["explainer", "sample", "cells"]) at(name).addEventListener("change", choose);
  slider.addEventListener("input", show);
  choose();
  slider.value = Math.round(slider.max / 5);
  show();
})();
