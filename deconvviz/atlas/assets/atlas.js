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

  // The address holds what is chosen on a page, so that it can be sent; it never adds a step to the way back.
  const inAddress = (name) => new URLSearchParams(location.search).get(name);
  function toAddress(name, value) {
    const all = new URLSearchParams(location.search);
    if (value) all.set(name, value); else all.delete(name);
    const query = all.size ? "?" + all : "";
    try { history.replaceState(null, "", location.pathname + query + location.hash); } catch { /* stays as it is */ }
  }

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
      ["/", "Search: a number, a layer and a number, a class, a picture, dead, dense"],
      ["← →", "The one before, the next one"], ["↑ ↓", "Rows of a grid"], ["Enter", "Open"],
      ["1 9", "A unit's strongest places"], ["z", "Look closer"], ["+ − 0", "There: closer, farther, as a whole"],
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
    const state = /^(?:(.*?)\s+)?(dead|never fires?|dense)(?:\s+units?)?$/.exec(query);
    for (const layer of state ? data.layers : []) {
      if (state[1] && ![layer.name, ...layer.aliases].some((n) => plain(n) === state[1])) continue;
      const name = state[2] === "dense" ? "dense" : "dead";
      const count = name === "dead" ? layer.dead.length : layer.dense;
      hits.push({
        text: `${layer.name}: ${count || "no"} ${name} unit${count === 1 ? "" : "s"}`,
        note: `of ${layer.units}`,
        href: `layers/${layer.number}.html${count ? "?only=" + name : ""}`,
      });
      if (name === "dead") layer.dead.forEach((unit) => unitHit(layer, unit));
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
    difference: (c) => Number(c.dataset.alike), // of two networks
    alike: (c) => -Number(c.dataset.alike),
  };

  const layerOf = (path) => (/layers\/(\d+)(?:\.html|\/)/.exec(path) || [])[1];
  const remember = (query) => { try { sessionStorage.setItem("layer" + layerOf(location.pathname), query); } catch { /* not kept */ } };

  function wayUp() {
    const up = $("a[data-up]");
    if (!up || !layerOf(up.href) || !$(".plates")) return;
    try { up.search = sessionStorage.getItem("layer" + layerOf(up.href)) || ""; } catch { /* as it is */ }
  }

  function grid() {
    const list = $("#units");
    if (!list) return;
    const cells = $$("li", list);
    const links = () => $$("li:not([hidden]) a", list);
    const said = $(".tools .said");
    const tools = $(".tools");
    const sort = $("#sort");
    const only = $("#only");

    const alone = (link) => links().forEach((a) => { a.tabIndex = a === link ? 0 : -1; });
    const focus = (link) => {
      alone(link);
      link.focus();
      link.scrollIntoView({ block: "nearest" });
    };
    const arrange = (name, tell) => {
      const key = orders[name];
      // Units that never fire come last in every order but the numbers'; equal ones by number.
      const dead = (c) => (name !== "number" && c.classList.contains("dead") ? 1 : 0);
      cells.sort((a, b) => dead(a) - dead(b) || key(a) - key(b) || Number(a.dataset.unit) - Number(b.dataset.unit));
      list.replaceChildren(...cells);
      alone(links()[0]);
      for (const cell of cells) $(".value", cell).textContent = cell.getAttribute("data-shown-" + name) || cell.dataset.note;
      if (tell) say(sort.selectedOptions[0].dataset.says);
    };
    const say = (text) => {
      const shown = cells.filter((c) => !c.hidden).length;
      said.textContent = shown < cells.length ? `${shown} of ${cells.length} units. ${text}` : text;
    };
    const narrow = (name) => {
      for (const cell of cells) cell.hidden = Boolean(name) && !cell.dataset.is.split(" ").includes(name);
      alone(links()[0]);
    };
    const keep = (name, value) => { kept.set(name, value); toAddress(name, value); };
    const showing = (what) => {
      for (const image of $$("img", list)) {
        image.src = image.getAttribute("src").replace(/-(projections|pictures)-/, `-${what}-`);
        image.alt = image.alt.replace(/^(Projections|Pictures)/, what[0].toUpperCase() + what.slice(1));
      }
    };

    tools.hidden = false;
    // The address first, then what the reader chose last.
    const wished = [inAddress("sort"), kept.get("sort")].find((name) => [...sort.options].some((o) => o.value === name));
    if (wished) { sort.value = wished; toAddress("sort", wished); }
    if ([...only.options].some((o) => o.value === inAddress("only"))) only.value = inAddress("only");
    narrow(only.value);
    arrange(sort.value, sort.value !== "number" || only.value);
    sort.addEventListener("change", () => { keep("sort", sort.value); arrange(sort.value, true); });
    only.addEventListener("change", () => {
      toAddress("only", only.value);
      narrow(only.value);
      say(sort.selectedOptions[0].dataset.says);
    });
    const view = [inAddress("show"), kept.get("show")].find((what) => what === "pictures" || what === "projections");
    for (const radio of $$("input[name=show]", tools)) {
      radio.addEventListener("change", () => { keep("show", radio.value); showing(radio.value); });
      if (radio.value === view) {
        radio.checked = true;
        toAddress("show", view);
        if (view !== "projections") showing(view);
      }
    }
    // A unit's way up leads back to the layer as it was left.
    addEventListener("pagehide", () => remember(location.search));

    const reach = (text) => {
      const cell = cells.find((c) => c.dataset.unit === String(Number(text.trim().replace(/^#/, ""))));
      if (text.trim() && cell) {
        if (cell.hidden) { only.value = ""; toAddress("only", ""); narrow(""); }
        focus($("a", cell));
        said.textContent = `Unit ${cell.dataset.unit}`;
      } else {
        said.textContent = `No unit ${text.trim()} here: 0 to ${cells.length - 1}`;
      }
    };
    $("#find").addEventListener("keydown", (event) => {
      if (event.key === "Enter") { event.preventDefault(); reach(event.target.value); }
    });

    list.addEventListener("focusin", (event) => { const a = event.target.closest("a"); if (a) alone(a); });
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
      if (cell && !cell.hidden) addEventListener("load", () => setTimeout(() => { focus($("a", cell)); cell.scrollIntoView({ block: "center" }); }));
    }
  }

  // Two views of one thing light up together: projection and crop, unit and place in the picture ----------------

  function together() {
    for (const one of $$("[data-pair]")) {
      const light = (on) => $$(`[data-pair="${one.dataset.pair}"]`).forEach((o) => o.classList.toggle("lit", on));
      for (const [event, on] of [["mouseenter", true], ["mouseleave", false], ["focus", true], ["blur", false]]) {
        one.addEventListener(event, () => light(on));
      }
      // A finger cannot point: its first tap lights up, the second one follows.
      let touched = false;
      one.addEventListener("pointerdown", (event) => {
        touched = event.pointerType === "touch" && !one.classList.contains("lit");
      });
      one.addEventListener("click", (event) => {
        if (!touched) return;
        touched = false;
        event.preventDefault();
        for (const other of $$(".lit")) other.classList.remove("lit");
        light(true);
        one.focus({ preventScroll: true });
      });
    }
    const target = /^#b[\d-]+$/.test(location.hash) && $(`a[data-pair="${location.hash.slice(2)}"]`);
    const rest = target && target.closest("details");
    if (rest) rest.open = true;
    if (target) target.classList.add("lit");
  }

  // The strongest places of a unit: one is chosen, shown in its whole picture, and looked at closely -------------

  let places = null; // what the keys of the page act on

  function plates() {
    const links = $$(".plate a[data-place]");
    const figure = $(".whole .seen");
    if (!figure) return;
    const all = $$("a[data-photo]").map((a) => {
      const [width, height] = a.dataset.size.split(" ").map(Number);
      const box = a.dataset.box ? a.dataset.box.split(" ").map(Number) : null;
      return { ...a.dataset, width, height, box, href: a.href };
    });
    const caption = $("figcaption", figure);
    caption.insertAdjacentHTML("beforeend", `<span class="buttons">
      <button class="icon before" type="button" aria-label="The place before">${svg("", '<path d="M12 4l-6 6 6 6"/>')}</button>
      <button class="icon next" type="button" aria-label="The next place">${svg("", '<path d="M8 4l6 6-6 6"/>')}</button>
      <button class="icon closer" type="button" aria-label="Look closer">${svg("", '<circle cx="9" cy="9" r="5.5"/><path d="M13 13l4.5 4.5M9 6.8v4.4M6.8 9h4.4"/>')}</button>
      </span>`);
    let now = 0;
    const show = (n) => {
      now = (n + all.length) % all.length;
      const { photo, width, height, box, name, says, href } = all[now];
      const image = $("img", figure);
      if (image.getAttribute("src") !== photo) image.src = photo;
      Object.assign(image, { width, height, alt: `${name}, as the network sees it` });
      const drawing = $("svg", figure);
      drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
      if (box) {
        const [top, left, bottom, right] = box;
        const set = (shape, values) => Object.entries(values).forEach(([key, value]) => shape.setAttribute(key, value));
        set($(".veil", drawing), { d: `M0 0H${width}V${height}H0ZM${left} ${top}H${right}V${bottom}H${left}Z` });
        set($("rect", drawing), { x: left, y: top, width: right - left, height: bottom - top });
      }
      $(".no", figure).textContent = String(now + 1);
      $(".strength", figure).textContent = says;
      Object.assign($(".from", figure), { textContent: name, href });
      for (const link of links) {
        const on = Number(link.dataset.place) === now;
        link.classList.toggle("lit", on);
        if (on) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
      }
      toAddress("place", now ? String(now + 1) : "");
      if (places.shown) places.shown();
    };
    places = { show, all, now: () => now, step: (by) => show(now + by) };

    for (const link of links) {
      const mine = Number(link.dataset.place);
      let known = false; // chosen before this click: the click looks closer
      link.addEventListener("mouseenter", () => show(mine));
      link.addEventListener("focus", () => show(mine));
      link.addEventListener("pointerdown", (event) => { known = event.pointerType !== "touch" || now === mine; });
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
        event.preventDefault();
        const byKey = event.detail === 0;
        show(mine);
        if (known || byKey) places.look(link.closest("section").getAttribute("aria-labelledby") === "plate-0" ? "projection" : "piece");
      });
      link.addEventListener("keydown", (event) => {
        const group = links.filter((a) => a.closest("ol") === link.closest("ol"));
        const columns = Math.round(Math.sqrt(group.length - 0.5) + 0.49);
        const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
        const to = by && group[group.indexOf(link) + by];
        if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        if (to) to.focus();
      });
    }
    $(".before", caption).addEventListener("click", () => places.step(-1));
    $(".next", caption).addEventListener("click", () => places.step(1));
    $(".closer", caption).addEventListener("click", () => places.look("whole"));
    $(".frame", figure).addEventListener("click", () => places.look("whole"));
    closer();
    const asked = Number(inAddress("place"));
    show(asked >= 1 && asked <= all.length ? asked - 1 : 0);
  }

  function closer() {
    document.body.insertAdjacentHTML("beforeend", `
      <dialog class="zoom" aria-labelledby="zoom-title">
        <header>
          <h2 id="zoom-title"></h2>
          <fieldset class="field"><legend class="vh">What is shown</legend><div class="choice">
            <label><input type="radio" name="look" value="projection"> Projection</label>
            <label><input type="radio" name="look" value="piece"> Picture</label>
            <label><input type="radio" name="look" value="whole"> Whole</label></div></fieldset>
          <div class="buttons">
            <button class="icon before" type="button" aria-label="The place before">${svg("", '<path d="M12 4l-6 6 6 6"/>')}</button>
            <button class="icon next" type="button" aria-label="The next place">${svg("", '<path d="M8 4l6 6-6 6"/>')}</button>
          </div>
          <div class="buttons">
            <button class="icon less" type="button" aria-label="Zoom out">${svg("", '<path d="M4 10h12"/>')}</button>
            <button class="icon more-of" type="button" aria-label="Zoom in">${svg("", '<path d="M4 10h12M10 4v12"/>')}</button>
          </div>
          <output></output>
          <button class="icon shut" type="button" aria-label="Close">${svg("", '<path d="M5 5l10 10M15 5L5 15"/>')}</button>
        </header>
        <div class="stage" tabindex="0" role="region" aria-label="The picture, large"></div>
      </dialog>`);
    const dialog = $(".zoom");
    const stage = $(".stage", dialog);
    const radio = (what) => $(`input[value=${what}]`, dialog);
    let factor = 1;
    let last = 0;

    const fit = () => {
      const { height, width, box } = places.all[places.now()];
      const whole = radio("whole").checked;
      const tile = $(".plate .tile").getBoundingClientRect();
      const ratio = whole ? width / height : tile.width / tile.height;
      const own = whole ? width : box ? box[3] - box[1] : width;
      const side = Math.min(stage.clientWidth - 32, (stage.clientHeight - 32) * ratio);
      return { side, own };
    };
    const scale = (to) => {
      const middle = [0.5 * stage.clientWidth, 0.5 * stage.clientHeight];
      const at = [(stage.scrollLeft + middle[0]) / stage.scrollWidth, (stage.scrollTop + middle[1]) / stage.scrollHeight];
      factor = Math.min(Math.max(to, 1), 8);
      const { side, own } = fit();
      stage.style.setProperty("--side", `${Math.round(side * factor)}px`);
      stage.classList.toggle("pixels", side * factor >= 3 * own);
      $("output", dialog).textContent = `${Math.round(100 * factor)} %`;
      stage.scrollTo(at[0] * stage.scrollWidth - middle[0], at[1] * stage.scrollHeight - middle[1]);
    };
    const draw = () => {
      last = places.now();
      const { name } = places.all[places.now()];
      $("h2", dialog).textContent = `${places.now() + 1} of ${places.all.length} · ${name}`;
      const row = radio("piece").checked ? "plate-1" : "plate-0";
      const from = radio("whole").checked
        ? $(".whole .seen")
        : $(`section[aria-labelledby=${row}] a[data-place="${places.now()}"] .tile`).parentElement;
      const copy = document.createElement("div");
      // Measures of the sheet stand on the plates.
      copy.className = radio("whole").checked ? "seen" : $(".plates").className.replace("plates", "");
      copy.append(($(".frame", from) || $(".tile", from)).cloneNode(true));
      stage.replaceChildren(copy);
      scale(factor);
    };
    places.shown = () => { if (dialog.open) draw(); };
    places.look = (what) => {
      radio(what).checked = true;
      factor = 1;
      if (!dialog.open) dialog.showModal();
      draw();
      stage.focus();
    };
    for (const input of $$("input", dialog)) input.addEventListener("change", draw);
    $(".before", dialog).addEventListener("click", () => places.step(-1));
    $(".next", dialog).addEventListener("click", () => places.step(1));
    $(".less", dialog).addEventListener("click", () => scale(factor / 1.5));
    $(".more-of", dialog).addEventListener("click", () => scale(factor * 1.5));
    $(".shut", dialog).addEventListener("click", () => dialog.close());
    // What had the focus gets it back, and would choose its own place again.
    dialog.addEventListener("close", () => {
      const panel = document.activeElement.closest(".plate ol");
      if (panel) $(`a[data-place="${last}"]`, panel).focus({ preventScroll: true });
      else places.show(last);
    });
    dialog.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input")) return;
      const moves = factor > 1 && event.target === stage; // then the arrows move the picture
      const act = {
        "+": () => scale(factor * 1.5), "=": () => scale(factor * 1.5), "-": () => scale(factor / 1.5), 0: () => scale(1),
        ArrowLeft: moves ? null : () => places.step(-1), ArrowRight: moves ? null : () => places.step(1),
      }[event.key];
      if (act) { event.preventDefault(); act(); }
    });
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      scale(factor * (event.deltaY < 0 ? 1.2 : 1 / 1.2));
    }, { passive: false });
    stage.addEventListener("dblclick", () => scale(factor > 1 ? 1 : 3));
    let grip = null;
    stage.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse") grip = [event.clientX + stage.scrollLeft, event.clientY + stage.scrollTop];
    });
    addEventListener("pointermove", (event) => { if (grip) stage.scrollTo(grip[0] - event.clientX, grip[1] - event.clientY); });
    addEventListener("pointerup", () => { grip = null; });
    addEventListener("resize", () => { if (dialog.open) scale(factor); });
  }

  // Keys -------------------------------------------------------------------------------------------------------

  function keys() {
    const dialog = $("#keys");
    $("#keys-button").addEventListener("click", () => dialog.showModal());
    document.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented || $("dialog[open]")) return;
      if (event.key === "Escape" && document.activeElement && typing()) { document.activeElement.blur(); return; }
      if (typing()) return;
      const follow = { ArrowLeft: "a[rel=prev]", ArrowRight: "a[rel=next]", Escape: "a[data-up]" }[event.key];
      const link = follow && $(follow);
      if (event.key === "/") { event.preventDefault(); $(".search input").focus(); $(".search input").select(); }
      else if (event.key === "?") dialog.showModal();
      else if (places && event.key === "z") places.look("whole");
      else if (places && /^[1-9]$/.test(event.key) && Number(event.key) <= places.all.length) places.show(Number(event.key) - 1);
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
  plates();
  wayUp();
  keys();
})();
