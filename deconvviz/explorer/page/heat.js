/** The heat map: what the network makes of the picture with each place covered, filling in as it is computed. */

import { $, el, number, percent } from "./dom.js";
import { lines } from "./api.js";
import { CLASSES, OTHER, colour } from "./colours.js";

const SHARP = 3; // pixels of the canvas for one of the picture

export class Heat {
  #key = "";
  #flight = null;
  #grid = null;
  #cells = [];
  #grey = null;
  #at = null;
  #show = null;

  /** `fail(error)` is told what went wrong. */
  constructor(fail) {
    this.fail = fail;
    this.canvas = $("heat");
  }

  /** The photograph under the colours, `image` decoded, of `size` (h, w). */
  picture(image, [h, w]) {
    this.#grey = image;
    [this.canvas.height, this.canvas.width] = [h * SHARP, w * SHARP];
    this.draw();
  }

  /** The view is another one, or the map would be: what is on its way is given up. */
  stop() {
    this.#flight?.abort();
    this.#flight = null;
    this.#key = "";
  }

  /** Ask for the whole map, unless it is this one already; `values` as the server wants them. */
  async want(picture, values) {
    const key = JSON.stringify([picture, values]);
    if (key === this.#key) return;
    this.stop();
    this.#key = key;
    const flight = (this.#flight = new AbortController());
    [this.#grid, this.#cells] = [null, []];
    this.draw();
    try {
      for await (const line of lines(`pictures/${picture}/heat`, values, { signal: flight.signal })) {
        if (line.rows) this.#grid = line;
        for (const cell of line.at ?? []) this.#cells.push(cell);
        if (line.error) throw new Error(line.error);
        this.done = line.done ?? this.done;
        this.draw();
      }
    } catch (error) {
      if (error.name === "AbortError" || flight.signal.aborted || error.status === 409) return;
      this.#key = "";
      this.fail(error);
    }
  }

  /** How it is to be shown: `of`, `window`, the class's `label` and all `labels`, `baseline`, `activity` uncovered. */
  show(show) {
    this.#show = show;
    this.draw();
  }

  /** Where the square is now. */
  at(at) {
    this.#at = at;
    this.draw();
  }

  /** Draw on the next frame. */
  draw() {
    this.due ??= requestAnimationFrame(() => {
      this.due = null;
      this.#draw();
    });
  }

  #draw() {
    if (!this.#show || $("shown-heat").hidden) return;
    const pen = this.canvas.getContext("2d"), { width, height } = this.canvas;
    pen.clearRect(0, 0, width, height);
    if (this.#grey) {
      pen.filter = "grayscale(1) contrast(0.45) brightness(1.15)";
      pen.drawImage(this.#grey, 0, 0, width, height);
      pen.filter = "none";
    }
    const say = this.#describe();
    if (this.#grid) {
      const side = this.#show.window, { origins_rows: rows, origins_cols: cols } = this.#grid;
      const bands = [edges(rows, side), edges(cols, side)];
      const known = new Map(this.#cells.map((cell) => [cell[0] * cols.length + cell[1], cell]));
      for (let i = 0; i < rows.length; i++) for (let j = 0; j < cols.length; j++) {
        const own = known.get(i * cols.length + j), cell = own ?? coarser(known, i, j, cols.length);
        if (!cell) continue;
        const [top, bottom] = bands[0][i].map((y) => Math.round(y * SHARP)), [left, right] = bands[1][j].map((x) => Math.round(x * SHARP));
        // What is not computed yet has a tint of the coarser position it belongs to.
        pen.globalAlpha = own ? 1 : 0.4;
        pen.fillStyle = say.colour(cell);
        pen.fillRect(left, top, right - left, bottom - top);
      }
      pen.globalAlpha = 1;
    }
    if (this.#at) this.#ring(pen);
  }

  /** A ring where the middle of the square is. */
  #ring(pen) {
    const side = this.#show.window, y = (this.#at[0] + side / 2) * SHARP, x = (this.#at[1] + side / 2) * SHARP;
    for (const [line, ink] of [[SHARP * 2.6, "rgb(0 0 0 / 0.75)"], [SHARP * 1.2, "#fff"]]) {
      pen.beginPath();
      pen.arc(x, y, 4 * SHARP, 0, 2 * Math.PI);
      pen.lineWidth = line;
      pen.strokeStyle = ink;
      pen.stroke();
    }
  }

  /** Legend and words for what is shown; returns how a cell [i, j, probability, prediction, activity] is coloured. */
  #describe() {
    const { of, label, labels, baseline, activity } = this.#show;
    const count = this.#cells.length, total = this.#grid?.total ?? 0;
    const far = total && count >= total ? `${total} positions` : `${count} of ${total || "…"} positions`;
    $("shown-note").textContent = far;
    this.canvas.dataset.done = String(Boolean(total) && count >= total);
    this.canvas.dataset.of = of;
    $("legend").hidden = of === "prediction";
    $("swatches").hidden = of !== "prediction";
    this.canvas.setAttribute("aria-label", `Heat map of the ${of}, ${far}`);
    if (of === "prediction") return this.#classes(labels);
    const which = of === "activity" ? 4 : 2, values = this.#cells.map((cell) => cell[which]).filter((v) => v !== null);
    const high = of === "activity" ? Math.max(activity ?? 0, ...values) || 1 : 1;
    const uncovered = of === "activity" ? activity : baseline;
    $("ramp").dataset.of = of;
    $("ramp-mark").style.left = `${(100 * (uncovered ?? 0)) / high}%`;
    $("ramp-low").textContent = "0";
    $("ramp-high").textContent = of === "activity" ? number(high) : "1";
    const range = values.length ? `${shown(of, Math.min(...values))} to ${shown(of, Math.max(...values))}` : "";
    $("ramp-note").textContent = uncovered === null || uncovered === undefined ? "" : `uncovered ${shown(of, uncovered)}${range && `, covered ${range}`}`;
    $("shown-title").textContent = of === "activity" ? "Sum of the map" : `Probability of ${label}`;
    return { colour: (cell) => colour(of, (cell[which] ?? 0) / high) };
  }

  #classes(labels) {
    const counts = new Map();
    for (const cell of this.#cells) counts.set(cell[3], (counts.get(cell[3]) ?? 0) + 1);
    const first = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a));
    const key = new Map(first.map((k, n) => [k, CLASSES[n] ?? OTHER]));
    const name = (k) => labels?.[k] ?? `class ${k}`;
    const row = (ink, text, n) => {
      const swatch = el("i");
      swatch.style.background = ink;
      return el("li", {}, swatch, `${text} `, el("span", { className: "soft", textContent: percent(n / this.#cells.length) }));
    };
    const rest = first.slice(CLASSES.length);
    $("swatches").replaceChildren(...first.slice(0, CLASSES.length).map((k) => row(key.get(k), name(k), counts.get(k))),
      ...(rest.length ? [row(OTHER, `${rest.length} more`, rest.reduce((sum, k) => sum + counts.get(k), 0))] : []));
    $("shown-title").textContent = "Most probable class";
    return { colour: (cell) => key.get(cell[3]) };
  }
}

const shown = (of, value) => (of === "activity" ? number(value) : value.toFixed(3));

/** The position of a coarser grid that (i, j) belongs to, if one is known. */
function coarser(known, i, j, across) {
  for (let k = 1; k < 6; k++) {
    const cell = known.get(((i >> k) << k) * across + ((j >> k) << k));
    if (cell) return cell;
  }
  return null;
}

/** The band [from, to) that each position has: around the middle of its square, halfway to those beside it. */
function edges(origins, side) {
  const middles = origins.map((o) => o + side / 2), ends = origins.length > 1 ? (origins[1] - origins[0]) / 2 : side / 2;
  return middles.map((m, k) => [
    k ? (middles[k - 1] + m) / 2 : m - ends,
    k + 1 < middles.length ? (m + middles[k + 1]) / 2 : m + ends,
  ]);
}
