/* Search, sorting, keys and the theme. Everything a page shows is there without this file; all text goes in as text. */
"use strict";

(() => {
  const root = document.documentElement.dataset.root;
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

  // Kept choices: private windows and some browsers on file:// refuse storage, and then nothing is kept.
  const kept = {
    get: (key) => { try { return localStorage.getItem("deconvviz." + key); } catch { return null; } },
    set: (key, value) => { try { localStorage.setItem("deconvviz." + key, value); } catch { /* not kept */ } },
  };

  const typing = () => Boolean(document.activeElement && document.activeElement.closest("input, select, textarea"));

  // What works with a script only is made by it; this is fixed text, none of it from the pictures or the network. -----

  const svg = (name, shapes) => `<svg class="${name}" viewBox="0 0 20 20" aria-hidden="true">${shapes}</svg>`;

  function controls() {
    $(".bar").insertAdjacentHTML("beforeend", `
      <form class="search" role="search">
        <label class="vh" for="q">Search units, layers, classes and pictures</label>
        <input id="q" type="search" placeholder="Search" autocomplete="off" spellcheck="false" role="combobox"
          aria-autocomplete="list" aria-expanded="false" aria-controls="hits">
        <kbd aria-hidden="true">/</kbd>
        <ul class="hits" id="hits" role="listbox" aria-label="Results" hidden></ul>
        <p class="vh" aria-live="polite"></p>
      </form>
      <button class="icon theme" type="button">
        ${svg("auto", '<circle cx="10" cy="10" r="7"/><path class="on" d="M10 3a7 7 0 0 1 0 14z"/>')}
        ${svg("light", '<circle cx="10" cy="10" r="3.6"/><path d="M10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1'
          + 'M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.4l1.1-1.1"/>')}
        ${svg("dark", '<path d="M16.5 12.2A7 7 0 0 1 7.8 3.5a7 7 0 1 0 8.7 8.7z"/>')}
      </button>`);
    const keys = [
      ["/", "Search: a number, a layer and a number, a class, a picture"],
      ["← →", "The one before, the next one"], ["↑ ↓", "Rows of a grid"], ["Enter", "Open"],
      ["Esc", "Close the search, or go up a level"], ["?", "This list"],
    ].map(([key, text]) => `<dt>${key.split(" ").map((k) => `<kbd>${k}</kbd>`).join(" ")}</dt><dd>${text}</dd>`);
    document.body.insertAdjacentHTML("beforeend", `
      <dialog id="keys" aria-labelledby="keys-title">
        <form method="dialog" class="titled"><h2 id="keys-title">Keys</h2>
          <button class="icon" aria-label="Close">${svg("close", '<path d="M5 5l10 10M15 5L5 15"/>')}</button></form>
        <dl>${keys.join("")}</dl>
      </dialog>`);
    $("footer p:last-child").insertAdjacentHTML("beforeend", ' · <button class="plain" id="keys-button" type="button">Keys</button>');
  }

  // Search -----------------------------------------------------------------------------------------------------

  let loading = null;
  function index() {
    // A script that sets one variable: pages opened as files may not fetch.
    loading = loading || new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = root + "index.js";
      script.onload = () => resolve(window.DECONVVIZ_INDEX);
      script.onerror = reject;
      document.head.append(script);
    });
    return loading;
  }

  function find(data, text) {
    const query = text.trim().toLowerCase();
    const hits = [];
    const units = /^(?:(?:layer\s*)?(.*?)[\s:#/.,]*?(?:unit\s*)?)(\d+)$/.exec(query);
    const plain = (s) => s.toLowerCase();
    const unitHit = (layer, unit) => hits.push({
      text: `${layer.name}, unit ${unit}`,
      note: layer.labels ? layer.labels[unit] : "unit",
      href: `layers/${layer.number}/${unit}.html`,
    });
    if (units) {
      const [, where, digits] = units;
      const unit = Number(digits);
      for (const layer of data.layers) {
        const named = where && [layer.name, ...layer.aliases].some((n) => plain(n) === where.trim());
        if (unit < layer.units && (named || !where)) unitHit(layer, unit);
      }
    }
    for (const layer of data.layers) {
      if ([layer.name, ...layer.aliases].some((n) => plain(n).startsWith(query))) {
        hits.push({ text: layer.name, note: `layer, ${layer.units} units`, href: `layers/${layer.number}.html` });
      }
      (layer.labels || []).forEach((label, unit) => { if (plain(label).includes(query)) unitHit(layer, unit); });
    }
    data.groups.forEach((group, n) => {
      if (data.classes && plain(group[0]).includes(query)) {
        hits.push({ text: group[0], note: `class, ${group[1]} pictures`, href: `classes/${n}.html` });
      }
    });
    for (const [number, name, group] of data.pictures) {
      if (plain(name).includes(query)) {
        hits.push({ text: name, note: data.classes ? data.groups[group][0] : "picture", href: `pictures/${number}.html` });
      }
    }
    return hits;
  }

  function search() {
    const form = $(".search");
    const input = $("input", form);
    const list = $(".hits", form);
    const live = $("[aria-live]", form);
    const most = 50;
    let active = -1;
    let asked = 0;

    const close = () => {
      list.hidden = true;
      active = -1;
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
    };
    const choose = (n) => {
      const options = $$("[role=option]", list);
      active = options.length ? (n + options.length) % options.length : -1;
      options.forEach((o, i) => o.setAttribute("aria-selected", String(i === active)));
      if (active < 0) { input.removeAttribute("aria-activedescendant"); return; }
      input.setAttribute("aria-activedescendant", options[active].id);
      options[active].scrollIntoView({ block: "nearest" });
    };
    const go = (option) => { if (option) location.href = root + option.dataset.href; };
    const option = (hit, n) => {
      const item = document.createElement("li");
      item.id = "hit-" + n;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      item.dataset.href = hit.href;
      for (const text of [hit.text, hit.note]) {
        const part = document.createElement("span");
        part.textContent = text;
        item.append(part);
      }
      return item;
    };
    const show = async () => {
      const mine = ++asked;
      if (!input.value.trim()) { close(); live.textContent = ""; return; }
      const hits = find(await index(), input.value);
      if (mine !== asked) return;
      list.replaceChildren(...hits.slice(0, most).map(option));
      if (!hits.length || hits.length > most) {
        const note = document.createElement("li");
        note.className = "none";
        note.setAttribute("role", "presentation");
        note.textContent = hits.length ? `${hits.length - most} more: type on` : "Nothing found";
        list.append(note);
      }
      list.hidden = false;
      input.setAttribute("aria-expanded", "true");
      live.textContent = hits.length === 1 ? "1 result" : `${hits.length} results`;
      choose(hits.length ? 0 : -1);
    };

    input.addEventListener("focus", index, { once: true });
    input.addEventListener("input", show);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      await show();
      go($("[aria-selected=true]", list));
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        if (list.hidden) show();
        else choose(active + (event.key === "ArrowDown" ? 1 : -1));
      } else if (event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        if (list.hidden || !input.value) input.blur();
        input.value = "";
        close();
      }
    });
    list.addEventListener("mousedown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => go(event.target.closest("[role=option]")));
    input.addEventListener("blur", close);
  }

  // The grid of a layer: order, what is shown, finding a unit, arrow keys --------------------------------------

  const orders = {
    number: (c) => Number(c.dataset.unit),
    max: (c) => -Number(c.dataset.max),
    mean: (c) => -Number(c.dataset.mean),
    sparsity: (c) => Number(c.dataset.fires),
    similarity: (c) => Number(c.dataset.similarity),
  };

  function grid() {
    const list = $("#units");
    if (!list) return;
    const cells = $$("li", list);
    const links = () => $$("a", list);
    const said = $(".tools .said");
    const tools = $(".tools");
    const sort = $("#sort");

    const only = (link) => links().forEach((a) => { a.tabIndex = a === link ? 0 : -1; });
    const focus = (link) => {
      only(link);
      link.focus();
      link.scrollIntoView({ block: "nearest" });
    };
    const arrange = (name, tell) => {
      const key = orders[name];
      // Units that never fire come last in every order but the numbers'; equal ones by number.
      const dead = (c) => (name !== "number" && c.classList.contains("dead") ? 1 : 0);
      cells.sort((a, b) => dead(a) - dead(b) || key(a) - key(b) || Number(a.dataset.unit) - Number(b.dataset.unit));
      list.replaceChildren(...cells);
      only(links()[0]);
      for (const cell of cells) $(".value", cell).textContent = cell.getAttribute("data-shown-" + name) || cell.dataset.note;
      kept.set("sort", name);
      if (tell) said.textContent = sort.selectedOptions[0].dataset.says;
    };
    const showing = (what) => {
      for (const image of $$("img", list)) {
        image.src = image.getAttribute("src").replace(/-(projections|pictures)-/, `-${what}-`);
        image.alt = image.alt.replace(/^(Projections|Pictures)/, what[0].toUpperCase() + what.slice(1));
      }
      kept.set("show", what);
    };

    tools.hidden = false;
    if (kept.get("sort") in orders) sort.value = kept.get("sort");
    arrange(sort.value, sort.value !== "number");
    sort.addEventListener("change", () => arrange(sort.value, true));
    for (const radio of $$("input[name=show]", tools)) {
      radio.addEventListener("change", () => showing(radio.value));
      if (radio.value === kept.get("show") && radio.value !== "projections") { radio.checked = true; showing(radio.value); }
    }

    const reach = (text) => {
      const cell = cells.find((c) => c.dataset.unit === String(Number(text.trim().replace(/^#/, ""))));
      if (text.trim() && cell) {
        focus($("a", cell));
        said.textContent = `Unit ${cell.dataset.unit}`;
      } else {
        said.textContent = `No unit ${text.trim()} here: 0 to ${cells.length - 1}`;
      }
    };
    $("#find").addEventListener("keydown", (event) => {
      if (event.key === "Enter") { event.preventDefault(); reach(event.target.value); }
    });

    list.addEventListener("focusin", (event) => { const a = event.target.closest("a"); if (a) only(a); });
    list.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const all = links();
      const at = all.indexOf(document.activeElement);
      if (at < 0) return;
      const top = all[0].getBoundingClientRect().top;
      const columns = Math.max(1, all.findIndex((a) => a.getBoundingClientRect().top > top + 4));
      const wide = all.every((a) => a.getBoundingClientRect().top <= top + 4) ? all.length : columns;
      const to = {
        ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + wide, ArrowUp: at - wide,
        Home: 0, End: all.length - 1, PageDown: at + 4 * wide, PageUp: at - 4 * wide,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      if (to >= 0 && to < all.length) focus(all[to]);
      else if (event.key === "PageDown") focus(all[all.length - 1]);
      else if (event.key === "PageUp") focus(all[0]);
    });

    const named = /^#u(\d+)$/.exec(location.hash);
    if (named) {
      const cell = cells.find((c) => c.dataset.unit === named[1]);
      // After the browser has gone to the fragment itself, which takes the focus away.
      if (cell) addEventListener("load", () => setTimeout(() => { focus($("a", cell)); cell.scrollIntoView({ block: "center" }); }));
    }
  }

  // Two views of one thing light up together: projection and crop, unit and place in the picture ----------------

  function together() {
    for (const one of $$("[data-pair]")) {
      const light = (on) => $$(`[data-pair="${one.dataset.pair}"]`).forEach((o) => o.classList.toggle("lit", on));
      for (const [event, on] of [["mouseenter", true], ["mouseleave", false], ["focus", true], ["blur", false]]) {
        one.addEventListener(event, () => light(on));
      }
    }
  }

  // Keys -------------------------------------------------------------------------------------------------------

  function keys() {
    const dialog = $("#keys");
    $("#keys-button").addEventListener("click", () => dialog.showModal());
    document.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented || dialog.open) return;
      if (event.key === "Escape" && document.activeElement && typing()) { document.activeElement.blur(); return; }
      if (typing()) return;
      const follow = { ArrowLeft: "a[rel=prev]", ArrowRight: "a[rel=next]", Escape: "a[data-up]" }[event.key];
      const link = follow && $(follow);
      if (event.key === "/") { event.preventDefault(); $(".search input").focus(); $(".search input").select(); }
      else if (event.key === "?") dialog.showModal();
      else if (link) location.href = link.href;
      else if (event.key.startsWith("Arrow") && $("#units") && document.activeElement === document.body) {
        event.preventDefault();
        $("#units a[tabindex='0']").focus();
      }
    });
  }

  const here = $(".tabs [aria-current]");
  if (here) here.closest(".tabs").scrollLeft = here.offsetLeft - innerWidth / 3;
  controls();
  themeButton($(".theme"));
  search();
  grid();
  together();
  keys();
})();
