/** What the network makes of the picture: the most probable classes as bars, and the class in question. */

import { $, el, percent, radios } from "./dom.js";

export class Answer {
  #mark;
  #labels = null;
  #rows = [];

  /** `choose(class)` is told which class is to be in question. */
  constructor(choose) {
    this.#mark = radios($("bars"), (value) => choose(Number(value)));
    $("class").addEventListener("change", () => {
      const wanted = $("class").value.trim().toLowerCase();
      const k = this.#labels ? this.#labels.findIndex((label) => label.toLowerCase() === wanted) : Number(wanted);
      if (wanted && k >= 0) choose(k);
      $("class").setAttribute("aria-invalid", String(Boolean(wanted) && !(k >= 0)));
    });
    $("class").addEventListener("focus", () => $("class").select());
  }

  /** The network's classes: their names, or how many there are. */
  model(labels, count) {
    this.#labels = labels;
    const names = labels ?? Array.from({ length: count }, (_, k) => String(k));
    $("classes").replaceChildren(...names.map((value) => el("option", { value })));
  }

  /** Show five `rows`; `plain` are those of the uncovered picture, of which each bar bears a mark. */
  show(rows, plain, target, covered) {
    $("answer-title").textContent = covered ? "Covered, it sees" : "The network sees";
    const uncovered = new Map((plain ?? []).map((row) => [row.class, row.probability]));
    while (this.#rows.length < rows.length) this.#rows.push(this.#row());
    this.#rows.splice(rows.length).forEach((row) => row.button.remove());
    rows.forEach((row, k) => {
      const { button, name, value, bar, mark } = this.#rows[k], before = covered ? uncovered.get(row.class) : undefined;
      button.dataset.value = row.class;
      name.textContent = row.label;
      value.textContent = percent(row.probability);
      bar.style.width = `${100 * row.probability}%`;
      mark.hidden = before === undefined;
      if (before !== undefined) mark.style.left = `${100 * before}%`;
      const was = before === undefined ? "" : `, uncovered ${percent(before)}`;
      button.setAttribute("aria-label", `${row.label} ${percent(row.probability)}${was}`);
    });
    this.#mark(String(target));
    if (document.activeElement !== $("class")) $("class").value = this.#labels?.[target] ?? String(target ?? "");
  }

  #row() {
    const name = el("span", { className: "name" }), value = el("span", { className: "value" });
    const bar = el("i", { className: "bar-fill" }), mark = el("i", { className: "bar-mark" });
    const button = el("button", { type: "button", role: "radio", className: "bar-row" }, name, value, el("span", { className: "bar-line" }, bar, mark));
    $("bars").append(button);
    return { button, name, value, bar, mark };
  }
}
