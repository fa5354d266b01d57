/** Small things that every part of the page needs: elements, numbers as text, waiting until it is quiet. */

export const $ = (id) => document.getElementById(id);

/** An element with properties, `data` and `aria` attributes, and children; text goes in as text. */
export function el(tag, { data = {}, aria = {}, ...properties } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  for (const [name, value] of Object.entries(data)) made.dataset[name] = value;
  for (const [name, value] of Object.entries(aria)) made.setAttribute(`aria-${name}`, value);
  made.append(...children);
  return made;
}

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** A number with three digits that count. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace("-", "−");
  const text = size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toFixed(3);
  return text.replace("-", "−");
}

/** A probability in per cent. */
export function percent(value) {
  const p = 100 * value;
  if (p > 0 && p < 0.01) return "< 0.01\u00a0%";
  if (p > 99.99 && p < 100) return "> 99.99\u00a0%";
  return `${p >= 10 ? p.toFixed(1) : p.toFixed(2)}\u00a0%`;
}

/** Call `act` once it has not been called for `wait` milliseconds. */
export function quiet(act, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...given), wait);
  };
}

/** Which one of a row of `count` an arrow key leads to from `at`, `across` standing side by side; null for another key. */
export function step(key, at, count, across = 1, page = 1) {
  const to = {
    ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - across, ArrowDown: at + across,
    PageUp: at - across * page, PageDown: at + across * page, Home: 0, End: count - 1,
  }[key];
  if (to === undefined) return null;
  return key.startsWith("Page") || key === "Home" || key === "End" ? clamp(to, 0, count - 1) : to >= 0 && to < count ? to : at;
}

/** A radio group of buttons: one stop of the tab key, arrow keys choose. */
export function radios(group, choose) {
  const all = () => [...group.querySelectorAll("[role=radio]")];
  group.addEventListener("click", (event) => {
    const one = event.target.closest("[role=radio]");
    if (one) choose(one.dataset.value);
  });
  group.addEventListener("keydown", (event) => {
    const of = all(), at = of.indexOf(document.activeElement);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const to = step(event.key, at, of.length);
    if (to === null) return;
    event.preventDefault();
    of[to].focus();
    choose(of[to].dataset.value);
  });
  /** Mark the one chosen. */
  return (value) => {
    const of = all(), any = of.some((one) => one.dataset.value === value);
    of.forEach((one, k) => {
      one.setAttribute("aria-checked", String(one.dataset.value === value));
      one.tabIndex = one.dataset.value === value || (!any && k === 0) ? 0 : -1;
    });
  };
}
