/** Pinned units, side by side: photograph and projection of each, asked for one after the other. */

import { $, el, number } from "./dom.js";
import { Newest, json } from "./api.js";
import { pinText } from "./state.js";

const KEPT = 200;

export class Pins {
  #answers = new Map();
  #newest;

  /** `open(pin)`, `remove(pin)`; `boxes(list)` is told the receptive fields, `contrast(value)` the shared full contrast. */
  constructor({ open, remove, boxes, contrast, fail }) {
    Object.assign(this, { open, remove, boxes, contrast });
    this.#newest = new Newest((question, signal) => this.#ask(question, signal), fail);
  }

  /** Show `pins` of a picture; `values` are what all have in common; `shared`: one full contrast for all. */
  show(picture, pins, values, shared, name) {
    $("pinned").hidden = !pins.length;
    const list = $("pins"), old = new Map([...list.children].map((card) => [card.dataset.pin, card]));
    // A card that is moved, even to where it is, loses the click that is on its way.
    if ([...old.keys()].join(";") !== pins.map(pinText).join(";")) {
      list.replaceChildren(...pins.map((pin) => old.get(pinText(pin)) ?? this.#card(pin, name(pin.layer))));
    }
    if (pins.length) this.#newest.want({ picture, pins, values, shared });
    else {
      this.#newest.drop();
      this.boxes([]);
      this.contrast(null);
    }
  }

  async #ask({ picture, pins, values, shared }, signal) {
    const found = [];
    for (const pin of pins) found.push(await this.#one(picture, pin, values, signal));
    const most = shared ? Math.max(...found.map((answer) => answer?.scale ?? 0)) : null;
    if (most) for (const [k, pin] of pins.entries()) found[k] = await this.#one(picture, pin, { ...values, scale: most }, signal);
    this.contrast(most || null);
    this.boxes(found.filter(Boolean).map((answer) => answer.box));
  }

  async #one(picture, pin, values, signal) {
    const { layer, unit, place } = pin;
    const question = { layer, unit, row: place?.[0], col: place?.[1], ...values };
    const key = JSON.stringify([picture, question]);
    let answer = this.#answers.get(key);
    if (!answer) {
      try {
        answer = await json(`pictures/${picture}/projection`, question, { signal, lane: ".pins" });
      } catch (error) {
        if (error.status !== 422 && error.status !== 400 && error.status !== 404) throw error;
        this.#fill(pin, null, error.message);
        return null;
      }
      this.#answers.set(key, answer);
      if (this.#answers.size > KEPT) this.#answers.delete(this.#answers.keys().next().value);
    }
    this.#fill(pin, answer);
    return answer;
  }

  #card(pin, name) {
    const title = `${name} · unit ${pin.unit}`;
    const open = el("button", { type: "button", className: "pin-open", aria: { label: `${title}: show it` } },
      el("span", { className: "pin-pair" }, el("img", { alt: "" }), el("img", { alt: "" })));
    const remove = el("button", { type: "button", className: "pin-remove", textContent: "×", title: "Remove", aria: { label: `Remove ${title}` } });
    open.addEventListener("click", () => this.open(pin));
    remove.addEventListener("click", () => this.remove(pin));
    return el("li", { data: { pin: pinText(pin) } }, open, el("p", {}, el("b", { textContent: title }), el("span", { className: "soft" })), remove);
  }

  #fill(pin, answer, why = "") {
    const card = $("pins").querySelector(`[data-pin="${CSS.escape(pinText(pin))}"]`);
    if (!card) return;
    const [crop, projection] = card.querySelectorAll("img");
    if (answer) [crop.src, projection.src] = [answer.crop, answer.projection];
    else for (const image of [crop, projection]) image.removeAttribute("src");
    card.querySelector(".soft").textContent = answer ? `at ${answer.place.join(", ")} · ${number(answer.activation)}` : why;
  }
}
