/** The picture: what is marked on it, the square that covers it, and the pointer and the keys that move both. */

import { $, clamp } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

export class Stage {
  #size = [224, 224];
  #window = 64;
  #at = [0, 0];
  #grip = null;
  #noise = null;

  /**
   * `look([y, x] or null)` is told the pixel pointed at, `take([y, x])` the one clicked, `nudge(dy, dx)` of an arrow
   * key; `cover([row, col])` where the square was moved to, `rest()` that it is let go.
   */
  constructor({ look, take, nudge, cover, rest }) {
    this.frame = $("frame");
    this.frame.addEventListener("click", () => $("empty").hidden || $("file").click());
    this.frame.addEventListener("pointerdown", (event) => {
      if (event.button || !$("empty").hidden) return;
      this.frame.focus({ preventScroll: true });
      this.frame.setPointerCapture(event.pointerId);
      const at = this.#pixel(event);
      if (!this.covering) return look(at);
      const [y, x] = at, [row, col] = this.#at;
      const inside = y >= row && y < row + this.#window && x >= col && x < col + this.#window;
      this.#grip = inside ? [y - row, x - col] : [this.#window / 2, this.#window / 2];
      cover(this.moved(at));
    });
    this.frame.addEventListener("pointermove", (event) => {
      const at = this.#pixel(event);
      if (!this.covering) look(at);
      else if (this.#grip) cover(this.moved(at));
    });
    const up = (event) => {
      if (this.covering && this.#grip) rest();
      else if (!this.covering && event.type === "pointerup" && this.#inside(event)) take(this.#pixel(event));
      this.#grip = null;
    };
    this.frame.addEventListener("pointerup", up);
    this.frame.addEventListener("pointercancel", up);
    this.frame.addEventListener("pointerleave", () => !this.covering && look(null));
    this.frame.addEventListener("keydown", (event) => {
      const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      nudge(by, event.shiftKey);
    });
  }

  get covering() {
    return !$("occluder").hidden;
  }

  /** The pixel of the network's input under the pointer. */
  #pixel(event) {
    const box = $("input").getBoundingClientRect(), [h, w] = this.#size;
    const y = Math.floor(((event.clientY - box.top) / box.height) * h), x = Math.floor(((event.clientX - box.left) / box.width) * w);
    return [clamp(y, 0, h - 1), clamp(x, 0, w - 1)];
  }

  #inside(event) {
    const box = this.frame.getBoundingClientRect();
    return event.clientX >= box.left && event.clientX < box.right && event.clientY >= box.top && event.clientY < box.bottom;
  }

  /** Where the square comes to lie when it is held at pixel `at`: inside the picture. */
  moved([y, x], grip = this.#grip ?? [this.#window / 2, this.#window / 2]) {
    return this.within([Math.round(y - grip[0]), Math.round(x - grip[1])]);
  }

  within([row, col]) {
    return [clamp(row, 0, this.#size[0] - this.#window), clamp(col, 0, this.#size[1] - this.#window)];
  }

  /** A new picture of `size` (h, w). */
  picture(url, size, name) {
    this.#size = size;
    const image = $("input");
    image.src = url;
    image.alt = `${name}, as the network sees it`;
    $("marks").setAttribute("viewBox", `0 0 ${size[1]} ${size[0]}`);
    for (const frame of document.querySelectorAll(".desk .frame")) frame.style.aspectRatio = `${size[1]} / ${size[0]}`;
  }

  /** Mark the receptive field [top, left, bottom, right], or none. */
  box(box) {
    place($("mark-box"), box);
  }

  pins(boxes) {
    $("mark-pins").replaceChildren(...boxes.map((box) => place(document.createElementNS(SVG, "rect"), box)));
  }

  /** Show the square of `side` pixels at [row, col], or none; `fill` as it was asked, `grey` what grey looks like. */
  occluder(at, side, fill, grey) {
    const square = $("occluder"), [h, w] = this.#size;
    square.hidden = !at;
    $("mark-box").toggleAttribute("hidden", Boolean(at));
    if (!at) return;
    [this.#at, this.#window] = [at, side];
    Object.assign(square.style, {
      top: `${(100 * at[0]) / h}%`, left: `${(100 * at[1]) / w}%`, height: `${(100 * side) / h}%`, width: `${(100 * side) / w}%`,
    });
    const sharp = $("input").clientHeight / h;
    square.style.backdropFilter = fill === "blur" ? `blur(${(side / 4) * sharp}px)` : "";
    square.style.backgroundColor = fill === "blur" || fill === "noise" ? "" : fill === "grey" ? grey : fill;
    square.style.backgroundImage = fill === "noise" ? `url(${(this.#noise ??= noise())})` : "";
  }
}

function place(rect, box) {
  rect.toggleAttribute("hidden", !box);
  if (box) {
    const [top, left, bottom, right] = box;
    for (const [name, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top })) rect.setAttribute(name, value);
  }
  return rect;
}

/** A patch of noise, to show that noise is what covers; the network's own has the picture's mean and deviation. */
function noise(side = 64) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const pen = canvas.getContext("2d"), pixels = pen.createImageData(side, side);
  for (let i = 0; i < pixels.data.length; i++) pixels.data[i] = i % 4 === 3 ? 255 : 40 + 180 * Math.random();
  pen.putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}
