"use strict";
// One view for all pictures of a gallery's row: image, maps and boxes are magnified around the same place. A view is
// the magnification and where the upper left corner of the whole picture lies, in shares of what is seen.
(() => {
  const LARGEST = 16, STEP = 1.5, MOVE = 0.1;
  const SQUARE = 2; // CSS pixels: from this size on a pixel of a picture is drawn as a square
  const MOVES = { ArrowLeft: [MOVE, 0], ArrowRight: [-MOVE, 0], ArrowUp: [0, MOVE], ArrowDown: [0, -MOVE] };
  const rowOf = (part) => part?.closest("tr, li");
  const controls = new Map([...document.querySelectorAll(".zoom")].map((c) => [rowOf(c), c]));
  const views = new Map([...controls.keys()].map((row) => [row, { zoom: 1, x: 0, y: 0 }]));
  if (!controls.size) return;
  const together = document.getElementById("together"), said = document.getElementById("zoomed");
  let last = null;

  const within = (v, low, high) => Math.min(Math.max(v, low), high);

  function sharpen(img) {
    const zoom = views.get(rowOf(img))?.zoom ?? 1;
    img.classList.toggle("squares", zoom > 1 && zoom * img.getAttribute("width") >= SQUARE * img.naturalWidth);
  }

  function show(row, view) {
    const control = controls.get(row), back = control.querySelector("[data-back]"), zoomed = view.zoom > 1;
    views.set(row, view);
    row.classList.toggle("zoomed", zoomed);
    row.style.setProperty("--zoom", view.zoom);
    row.style.setProperty("--x", `${100 * view.x}%`);
    row.style.setProperty("--y", `${100 * view.y}%`);
    row.querySelectorAll(".picture img").forEach(sharpen);
    if (!zoomed && document.activeElement === back) control.querySelector("[data-times]").focus();
    back.hidden = !zoomed;
    control.querySelector("span").textContent = zoomed ? `${view.zoom.toFixed(1)}\u00a0×` : "";
  }

  function look(row, zoom, x, y) {
    const view = { zoom, x: within(x, 1 - zoom, 0), y: within(y, 1 - zoom, 0) };
    for (const each of together.checked ? views.keys() : [row]) show(each, view);
    last = row;
    const [left, top] = [view.x, view.y].map((v) => Math.round((100 * (0.5 - v)) / zoom));
    said.textContent = zoom > 1 ? `${zoom.toFixed(1)} times, around ${left} % from the left and ${top} % from the top` : "Whole pictures";
  }

  // What is seen at (left, top) stays there.
  function magnify(row, times, left = 0.5, top = 0.5) {
    const { zoom, x, y } = views.get(row), wanted = within(zoom * times, 1, LARGEST), next = wanted < 1.01 ? 1 : wanted;
    look(row, next, left - ((left - x) * next) / zoom, top - ((top - y) * next) / zoom);
  }

  function move(row, right, down) {
    const { zoom, x, y } = views.get(row);
    look(row, zoom, x + right, y + down);
  }

  function key(row, e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "+" || e.key === "=") magnify(row, STEP);
    else if (e.key === "-") magnify(row, 1 / STEP);
    else if (e.key in MOVES && views.get(row).zoom > 1) move(row, ...MOVES[e.key]);
    else return;
    e.preventDefault();
  }

  function wheel(row, e) {
    const picture = e.target.closest(".picture");
    if (!picture || !(e.ctrlKey || e.metaKey)) return; // the wheel alone scrolls; a touchpad's pinch comes with ctrlKey
    e.preventDefault();
    const box = picture.getBoundingClientRect(), turned = within(e.deltaMode ? 16 * e.deltaY : e.deltaY, -25, 25);
    magnify(row, Math.exp(-turned / 100), (e.clientX - box.left) / box.width, (e.clientY - box.top) / box.height);
  }

  function dragged(row) {
    const fingers = new Map(); // or the mouse: where each is
    const centre = (places) => [0, 1].map((i) => places.reduce((sum, p) => sum + p[i], 0) / places.length);
    const spread = ([a, b]) => (b && Math.hypot(a[0] - b[0], a[1] - b[1])) || 1;
    row.addEventListener("pointerdown", (e) => {
      const picture = e.target.closest(".picture");
      if (!picture || e.button) return;
      fingers.set(e.pointerId, [e.clientX, e.clientY]);
      picture.setPointerCapture(e.pointerId);
    });
    row.addEventListener("pointermove", (e) => {
      if (!fingers.has(e.pointerId)) return;
      const before = [...fingers.values()];
      fingers.set(e.pointerId, [e.clientX, e.clientY]);
      if (before.length === 1 && views.get(row).zoom === 1) return;
      const after = [...fingers.values()], box = e.target.closest(".picture").getBoundingClientRect();
      const [from, to] = [centre(before), centre(after)];
      move(row, (to[0] - from[0]) / box.width, (to[1] - from[1]) / box.height);
      if (after.length > 1) magnify(row, spread(after) / spread(before), (to[0] - box.left) / box.width, (to[1] - box.top) / box.height);
    });
    for (const end of ["pointerup", "pointercancel"]) row.addEventListener(end, (e) => fingers.delete(e.pointerId));
    row.addEventListener("touchmove", (e) => { // two fingers zoom the pictures, not the page
      if (e.touches.length > 1 && e.target.closest(".picture")) e.preventDefault();
    }, { passive: false });
    row.addEventListener("dragstart", (e) => e.target.closest(".picture") && e.preventDefault());
  }

  for (const [row, control] of controls) {
    control.addEventListener("click", (e) => {
      if (e.target.dataset.times) magnify(row, STEP ** Number(e.target.dataset.times));
      else if ("back" in e.target.dataset) look(row, 1, 0, 0);
    });
    control.addEventListener("keydown", (e) => key(row, e));
    row.addEventListener("wheel", (e) => wheel(row, e), { passive: false });
    dragged(row);
  }
  document.addEventListener("keydown", (e) => {
    const row = rowOf(document.activeElement?.closest(".zoom")) ?? last;
    if (e.key === "Escape" && row) look(row, 1, 0, 0);
  });
  document.addEventListener("load", (e) => e.target.matches?.(".picture img") && sharpen(e.target), true); // lazy ones
  together.addEventListener("change", () => last && move(last, 0, 0));
})();
