"use strict";
// Paired differences of two runs, as harness.stats computes them from the same bootstrap replicates.
const paired = (() => {
  const MAX_UNDEFINED = 0.05, TAIL = 0.025;

  // Distances of the replicates from the value: base64 of little-endian float32.
  function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
    return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }

  // As numpy's percentile: linear between the two neighbours.
  function quantile(sorted, share) {
    const at = share * (sorted.length - 1), below = Math.floor(at), above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
  }

  // Complementary error function, to about 1e-13 of its value: the series where it converges fast, else the continued fraction.
  function erfc(x) {
    if (x < 2) {
      let term = x, sum = x;
      for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) && n < 200; n++) {
        term *= (-x * x) / n;
        sum += term / (2 * n + 1);
      }
      return 1 - (2 / Math.sqrt(Math.PI)) * sum;
    }
    let tail = x;
    for (let k = 120; k > 0; k--) tail = x + k / 2 / tail;
    return Math.exp(-x * x) / Math.sqrt(Math.PI) / tail;
  }

  function normalP(value, error) {
    if (Number.isNaN(value) || Number.isNaN(error)) return NaN;
    if (error === 0) return value === 0 ? 1 : 0;
    return erfc(Math.abs(value / error) / Math.SQRT2);
  }

  // b - a with its 95 % percentile interval and two-sided p-value; NaN where more than 5 % of the replicates are undefined.
  function difference(b, a) {
    const value = b.value - a.value, [first, second] = [unpack(b.replicates), unpack(a.replicates)];
    const draws = first.map((away, i) => value + (away - second[i])), kept = draws.filter(Number.isFinite);
    if (draws.length - kept.length > MAX_UNDEFINED * draws.length || !kept.length) return { value, low: NaN, high: NaN, error: NaN, p: NaN };
    const mean = kept.reduce((sum, v) => sum + v, 0) / kept.length;
    const error = Math.sqrt(kept.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (kept.length - 1));
    kept.sort();
    return { value, low: quantile(kept, TAIL), high: quantile(kept, 1 - TAIL), error, p: normalP(value, error) };
  }

  // Holm's step-down correction; NaN is kept and not counted.
  function holm(p) {
    const adjusted = p.map(() => NaN), order = p.map((_, i) => i).filter((i) => !Number.isNaN(p[i])).sort((i, j) => p[i] - p[j]);
    let running = 0;
    order.forEach((i, rank) => { adjusted[i] = running = Math.max(running, Math.min(1, (order.length - rank) * p[i])); });
    return adjusted;
  }

  return { difference, holm };
})();
