/** The maps of a layer as a grid of which only what is in sight exists: pixels on one canvas, an option for each map. */

import { $, clamp, el, number, step } from "./dom.js";
import { painted } from "./colours.js";

const GAP = 10, LABEL = 20, LEAST = 64;

export class Maps {
  #order = [];
  #rank = new Map();
  #values = null;
  #bytes = null;
  #shape = null;
  #sheet = null;
  #options = new Map();
  #geometry = { columns: 1, side: LEAST };
  #drawn = false;
  active = null;
  chosen = null;
  pinned = new Set();

  /** `point(unit or null)` is told what is pointed at, `choose(unit)` what is clicked. */
  constructor({ point, choose }) {
    this.scroller = $("scroller");
    this.tall = $("tall");
    this.canvas = $("sheet");
    this.point = point;
    this.scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    this.tall.addEventListener("pointerover", (event) => event.pointerType === "mouse" && this.#point(this.#at(event)));
    this.scroller.addEventListener("pointerleave", () => this.#point(null));
    this.tall.addEventListener("click", (event) => {
      const unit = this.#at(event);
      if (unit === null) return;
      this.active = unit;
      choose(unit);
    });
    this.scroller.addEventListener("keydown", (event) => this.#key(event, choose));
    this.scroller.addEventListener("focus", () => this.scroller.matches(":focus-visible") && this.activate(this.active ?? this.chosen ?? this.#order[0] ?? null));
    this.scroller.addEventListener("blur", () => {
      this.active = null;
      this.#point(null);
    });
    new ResizeObserver(() => this.measure()).observe(this.scroller);
  }

  /** The maps as bytes (C, h, w); a sheet of all is painted once. */
  fill(bytes, shape) {
    [this.#bytes, this.#shape] = [bytes, shape];
    this.paint();
  }

  /** Paint again: the maps are new, or the theme is. */
  paint() {
    if (!this.#bytes) return;
    const [count, h, w] = this.#shape;
    const across = Math.max(1, Math.min(count, Math.floor(4096 / w))), rows = Math.ceil(count / across);
    const laid = new Uint8Array(across * w * rows * h);
    for (let k = 0; k < count; k++) {
      const left = (k % across) * w, top = Math.floor(k / across) * h;
      for (let r = 0; r < h; r++) laid.set(this.#bytes.subarray((k * h + r) * w, (k * h + r + 1) * w), (top + r) * across * w + left);
    }
    this.#sheet = { picture: painted(laid, across * w, rows * h), across, h, w };
    this.draw();
  }

  /** The map of one unit, as bytes, and its size. */
  one(unit) {
    if (!this.#bytes || unit >= this.#shape[0]) return null;
    const [, h, w] = this.#shape;
    return { bytes: this.#bytes.subarray(unit * h * w, (unit + 1) * h * w), h, w };
  }

  /** Show the units in `order`, each with its number of `values`. */
  sort(order, values) {
    this.#order = order;
    this.#values = values;
    this.#rank = new Map(order.map((unit, k) => [unit, k]));
    for (const option of this.#options.values()) option.remove();
    this.#options.clear();
    this.active = null;
    this.measure();
  }

  clear() {
    this.#bytes = this.#sheet = null;
    this.sort([], null);
    this.scroller.scrollTop = 0;
  }

  /** Bring `unit` into sight. */
  reveal(unit) {
    const rank = this.#rank.get(unit);
    if (rank === undefined) return false;
    const { columns, high } = this.#geometry, top = Math.floor(rank / columns) * high, view = this.scroller.clientHeight;
    if (top < this.scroller.scrollTop || top + high > this.scroller.scrollTop + view) {
      this.scroller.scrollTop = top - (view - high) / 2;
    }
    this.draw();
    return true;
  }

  mark(chosen, pinned) {
    this.chosen = chosen;
    this.pinned = pinned;
    this.draw();
  }

  /** What the keyboard is at. */
  activate(unit) {
    this.active = unit;
    if (unit !== null) {
      this.reveal(unit);
      this.#point(unit);
    }
    this.draw();
  }

  measure() {
    const wide = this.tall.clientWidth;
    if (!wide) return;
    const columns = Math.max(1, Math.floor((wide + GAP) / (LEAST + GAP)));
    const side = Math.floor((wide + GAP) / columns) - GAP;
    this.#geometry = { columns, side, high: side + LABEL + GAP };
    this.tall.style.height = `${Math.ceil(this.#order.length / columns) * this.#geometry.high}px`;
    this.draw();
  }

  /** Draw what is in sight, once a frame. */
  draw() {
    if (this.#drawn) return;
    this.#drawn = true;
    requestAnimationFrame(() => {
      this.#drawn = false;
      this.#draw();
    });
  }

  #draw() {
    const { columns, side, high } = this.#geometry, view = this.scroller.clientHeight, wide = this.tall.clientWidth;
    if (!high || !view) return;
    const above = this.scroller.scrollTop, sharp = window.devicePixelRatio || 1;
    const from = Math.max(0, Math.floor(above / high)) * columns;
    const until = Math.min(this.#order.length, Math.ceil((above + view) / high) * columns);
    const width = Math.round(wide * sharp), height = Math.round(view * sharp);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      [this.canvas.width, this.canvas.height] = [width, height];
      this.canvas.style.width = `${wide}px`;
      this.canvas.style.height = `${view}px`;
    }
    this.canvas.style.transform = `translateY(${above}px)`;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.clearRect(0, 0, wide, view);
    pen.imageSmoothingEnabled = false;
    const gone = new Set(this.#options.keys());
    for (let k = from; k < until; k++) {
      const unit = this.#order[k], x = (k % columns) * (side + GAP), y = Math.floor(k / columns) * high;
      gone.delete(unit);
      this.#option(unit, k, x, y, side);
      if (this.#sheet) this.#map(pen, unit, x, y - above, side);
    }
    for (const unit of gone) {
      this.#options.get(unit).remove();
      this.#options.delete(unit);
    }
    if (this.#options.has(this.active)) this.scroller.setAttribute("aria-activedescendant", `map-${this.active}`);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  #map(pen, unit, x, y, side) {
    const { picture, across, h, w } = this.#sheet, most = Math.max(h, w);
    const [wide, tall] = [(side * w) / most, (side * h) / most];
    pen.drawImage(picture, (unit % across) * w, Math.floor(unit / across) * h, w, h, x + (side - wide) / 2, y + (side - tall) / 2, wide, tall);
  }

  #option(unit, rank, x, y, side) {
    let option = this.#options.get(unit);
    if (!option) {
      option = el("div", { className: "map", id: `map-${unit}`, role: "option", data: { unit } },
        el("b", { textContent: unit }), el("span", { textContent: this.#values ? number(this.#values[unit]) : "" }));
      option.setAttribute("aria-posinset", rank + 1);
      option.setAttribute("aria-setsize", this.#order.length);
      this.#options.set(unit, option);
      this.tall.append(option);
    }
    option.style.transform = `translate(${x}px, ${y}px)`;
    option.style.width = `${side}px`;
    option.style.height = `${side + LABEL}px`;
    option.setAttribute("aria-selected", String(unit === this.chosen));
    option.classList.toggle("pinned", this.pinned.has(unit));
    option.classList.toggle("active", unit === this.active);
  }

  #at(event) {
    const option = event.target.closest(".map");
    return option ? Number(option.dataset.unit) : null;
  }

  #point(unit) {
    this.point(unit);
  }

  #key(event, choose) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.#order.length) return;
    const at = this.#rank.get(this.active ?? this.chosen) ?? 0, { columns, high } = this.#geometry;
    const to = step(event.key, at, this.#order.length, columns, clamp(Math.floor(this.scroller.clientHeight / high), 1, 100));
    if (to !== null) this.activate(this.#order[to]);
    else if ((event.key === "Enter" || event.key === " ") && this.active !== null) choose(this.active);
    else return;
    event.preventDefault();
  }
}
