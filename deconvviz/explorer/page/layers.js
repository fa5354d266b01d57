/** The strip of layers: each with its shape, drawn and in numbers. */

import { $, el, radios } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

export class Layers {
  #mark;
  #marked = null;

  /** `choose(id)` is told which layer to show. */
  constructor(choose) {
    this.#mark = radios($("layers"), choose);
  }

  fill(layers) {
    this.#marked = null;
    const most = { maps: Math.max(...layers.map((l) => l.shape[0])), side: Math.max(...layers.map((l) => l.shape[1])) };
    $("layers").replaceChildren(...layers.map((layer) => {
      const [maps, h, w] = layer.shape, size = h * w > 1 ? `${maps} × ${h} × ${w}` : String(maps);
      return el("button", { type: "button", role: "radio", className: "layer", title: `${layer.path} (${layer.kind})`, tabIndex: -1,
        aria: { label: `${layer.name}, ${h * w > 1 ? `${maps} maps of ${h} by ${w}` : `${maps} units`}`, checked: "false" }, data: { value: layer.id } },
        shape(maps / most.maps, h / most.side), el("b", { textContent: layer.name }), el("span", { textContent: size }));
    }));
  }

  mark(id) {
    if (id === this.#marked) return;
    this.#marked = id;
    this.#mark(id);
    const strip = $("layers"), one = strip.querySelector("[aria-checked=true]");
    if (one) strip.scrollLeft = one.offsetLeft - (strip.clientWidth - one.offsetWidth) / 2;
  }
}

/** A block as high as the maps and as wide as they are many, by the square root of each. */
function shape(many, high) {
  const svg = document.createElementNS(SVG, "svg"), block = document.createElementNS(SVG, "rect");
  const [wide, tall] = [3 + 25 * Math.sqrt(many), 2 + 16 * Math.sqrt(high)];
  svg.setAttribute("viewBox", `0 0 ${wide} 18`);
  svg.setAttribute("width", wide);
  svg.setAttribute("height", 18);
  svg.setAttribute("aria-hidden", "true");
  for (const [name, value] of Object.entries({ x: 0, y: 18 - tall, width: wide, height: tall })) block.setAttribute(name, value);
  svg.append(block);
  return svg;
}
