/** The page of `deconvviz explore`: one state, shown by its parts; every move asks the network itself. */

import { $, clamp, el, number, percent, quiet } from "./dom.js";
import { Gone, Newest, ask, atlas, json } from "./api.js";
import { DEFAULTS, MOST_PINS, pinText, read, written } from "./state.js";
import { FILLS, HEATS, METHODS, OVERLAPS, SCALES } from "./words.js";
import { painted } from "./colours.js";
import { Album, opened } from "./album.js";
import { Answer } from "./answer.js";
import { showCut } from "./cut.js";
import { Heat } from "./heat.js";
import { Layers } from "./layers.js";
import { Maps } from "./maps.js";
import { Pins } from "./pins.js";
import { Stage } from "./stage.js";
import { Take } from "./take.js";

const PUSHED = ["picture", "layer", "view"]; // what one can go back from

class Explore {
  state = { ...DEFAULTS };
  model = null;
  picture = null; // as the server tells of it, and its image
  units = null; // peaks, places and contributions of the layer, with the picture and layer they are of
  pointed = { unit: null, place: null };
  projected = null;
  covered = null;
  contrast = null; // the full contrast that all pins share
  middles = new Map(); // of a layer: the pixel in the middle of the field of place 0, 0
  troubles = new Map();

  constructor() {
    const fail = (kind) => (error) => this.fail(kind, error);
    this.layers = new Layers((layer) => this.set({ layer, unit: null, place: null }));
    this.album = new Album({ choose: (picture) => this.open(picture), link: (text) => this.follow(text), fail: fail("picture") });
    this.answer = new Answer((target) => this.set({ target }));
    this.maps = new Maps({ point: (unit) => this.point({ unit, place: null }), choose: (unit) => this.choose(unit) });
    this.stage = new Stage({
      look: (at) => this.point({ unit: null, place: at && this.placeOf(at) }),
      take: (at) => this.set({ ...this.kept(), place: this.placeOf(at) }),
      nudge: (by, fine) => this.nudge(by, fine),
      cover: (at) => this.set({ at }),
      rest: () => this.say(),
    });
    this.heat = new Heat(fail("heat"));
    this.pins = new Pins({
      open: (pin) => this.set({ ...pin }),
      remove: (pin) => this.set({ pins: this.state.pins.filter((one) => pinText(one) !== pinText(pin)) }),
      boxes: (boxes) => this.stage.pins(this.state.view === "projection" ? boxes : []),
      contrast: (value) => {
        if (value === this.contrast) return;
        this.contrast = value;
        this.show();
      },
      fail: fail("pins"),
    });
    this.take = new Take({ said: (text) => this.tell(text), fail: fail("take") });
    this.asks = {
      picture: new Newest((q, signal) => this.askPicture(q, signal), fail("picture")),
      maps: new Newest((q, signal) => this.askMaps(q, signal), fail("maps")),
      units: new Newest((q, signal) => this.askUnits(q, signal), fail("units")),
      projection: new Newest((q, signal) => this.askProjection(q, signal), fail("projection")),
      cover: new Newest((q, signal) => this.askCover(q, signal), fail("cover")),
      store: new Newest((q, signal) => this.askStore(q, signal), fail("store")),
    };
    this.say = quiet(() => this.tell(this.words()), 700);
    this.write = quiet(() => history.replaceState(null, "", written(this.state)), 200);
    this.heatSoon = quiet(() => this.showHeat(), 300);
    this.controls();
    this.keys();
    this.unitMap();
    addEventListener("hashchange", () => this.follow(location.hash));
    const repaint = () => {
      this.maps.paint();
      this.showUnitMap();
    };
    new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    new ResizeObserver(() => this.model && this.showSquare()).observe($("frame"));
  }

  // The state ----------------------------------------------------------------------------------------------------

  async start() {
    try {
      this.model = await json("model");
    } catch (error) {
      return this.fail("model", error);
    }
    const { name, version, labels, classes, layers, pictures, methods, overlaps, input, refused, window: square } = this.model;
    this.fine("model", refused);
    document.title = `${name} · explore`;
    $("model").textContent = $("model").title = name;
    $("version").textContent = `deconvviz ${version}`;
    this.layers.fill(layers);
    this.answer.model(labels, classes);
    $("method").replaceChildren(...methods.map((value) => el("option", { value, textContent: value })));
    $("overlap").replaceChildren(...overlaps.map((value) => el("option", { value, textContent: value })));
    $("window").max = square?.max ?? Math.min(...input);
    for (const picture of pictures) this.album.put(picture.id, picture.name);
    this.follow(location.hash);
  }

  /** Take the state from an address. */
  follow(text) {
    const said = read(text);
    const { name, layers, pictures, window: square } = this.model;
    if (said.model && said.model !== name) this.notice(`The link is of ${said.model}; this is ${name}.`);
    if (!layers.some((layer) => layer.id === said.layer)) {
      Object.assign(said, { layer: usual(layers)?.id ?? null, unit: null, place: null });
    }
    said.pins = said.pins.filter((pin) => layers.some((layer) => layer.id === pin.layer));
    said.model = name;
    said.picture ??= pictures[0]?.id ?? null;
    said.window = clamp(said.window ?? square?.default ?? 32, 1, Number($("window").max));
    this.pointed = { unit: null, place: null };
    this.state = said;
    this.write();
    this.show();
  }

  set(patch) {
    const pushed = PUSHED.some((key) => key in patch && patch[key] !== this.state[key]);
    if (pushed) history.pushState(null, "", written(this.state));
    Object.assign(this.state, patch);
    if (pushed || "unit" in patch || "place" in patch) this.pointed = { unit: null, place: null };
    this.write();
    this.show();
    this.say();
  }

  open(picture) {
    if (picture === this.state.picture) this.asks.picture.drop();
    this.set({ picture, place: null, target: null });
  }

  point(pointed) {
    this.pointed = pointed;
    this.show();
  }

  /** The unit that is shown, and its place: what is pointed at before what is kept; null: the strongest. */
  get seen() {
    const { unit, place } = this.pointed, own = this.state.unit ?? this.strongest;
    if (unit !== null && unit !== own) return { unit, place: null };
    return { unit: own, place: place ?? this.state.place };
  }

  /** What makes the unit that is only the strongest one stay. */
  kept() {
    return { unit: this.state.unit ?? this.strongest };
  }

  get layer() {
    return this.model.layers.find((layer) => layer.id === this.state.layer);
  }

  get fresh() {
    return this.picture?.id === this.state.picture;
  }

  /** What is known of the units, if it is of this picture and layer. */
  get known() {
    return this.units?.picture === this.state.picture && this.units?.layer === this.state.layer ? this.units : null;
  }

  get strongest() {
    const peaks = this.known?.peaks;
    if (!peaks) return null;
    return peaks.reduce((best, peak, k) => (peak > peaks[best] ? k : best), 0);
  }

  get target() {
    return this.state.target ?? (this.fresh ? this.picture.answer[0].class : null);
  }

  get square() {
    const { at, window: side } = this.state, [h, w] = this.picture?.size ?? this.model.input;
    return { side: Math.min(side, h, w), at: [0, 1].map((k) => clamp(at?.[k] ?? Math.round(([h, w][k] - side) / 2), 0, [h, w][k] - Math.min(side, h, w))) };
  }

  /** Units are chosen by a click: pinned, or not any more; in the occlusion view it is only whose map is followed. */
  choose(unit) {
    const { layer, pins, view } = this.state, pin = { unit, place: null, layer };
    if (view === "occlusion") return this.set({ unit, place: null });
    this.set({ unit, place: null, pins: this.toggled(pins, pin) });
  }

  toggled(pins, pin) {
    const rest = pins.filter((one) => pinText(one) !== pinText(pin));
    if (rest.length < pins.length) {
      this.tell(`Unit ${pin.unit} is no longer pinned.`);
      return rest;
    }
    if (pins.length >= MOST_PINS) {
      this.tell(`${MOST_PINS} units are pinned already: remove one first.`);
      return pins;
    }
    this.tell(`Unit ${pin.unit} is pinned.`);
    return [...pins, pin];
  }

  // Places -------------------------------------------------------------------------------------------------------

  /** The place of the layer whose receptive field has its middle next to a pixel. */
  placeOf([y, x]) {
    const [, h, w] = this.layer.shape, [high, wide] = this.picture?.size ?? this.model.input, stride = this.layer.stride;
    const middle = this.middles.get(this.layer.id);
    if (!stride || !middle) return [clamp(Math.floor((y * h) / high), 0, h - 1), clamp(Math.floor((x * w) / wide), 0, w - 1)];
    return [clamp(Math.round((y - middle[0]) / stride[0]), 0, h - 1), clamp(Math.round((x - middle[1]) / stride[1]), 0, w - 1)];
  }

  /** A field that is not cut at the border says where those of the layer lie. */
  learn({ place: [r, c], box: [top, left, bottom, right] }) {
    const { field, stride, id } = this.layer;
    if (field && stride && bottom - top === field[0] && right - left === field[1]) {
      this.middles.set(id, [(top + bottom - 1) / 2 - r * stride[0], (left + right - 1) / 2 - c * stride[1]]);
    }
  }

  nudge([dy, dx], fine) {
    if (this.state.view === "occlusion") {
      const by = fine ? 1 : 8, { at } = this.square;
      return this.set({ at: this.stage.within([at[0] + by * dy, at[1] + by * dx]) });
    }
    const [, h, w] = this.layer.shape, { unit, place } = this.seen, at = place ?? this.projected?.place ?? this.known?.places[unit] ?? [0, 0];
    this.set({ unit, place: [clamp(at[0] + dy, 0, h - 1), clamp(at[1] + dx, 0, w - 1)] });
  }

  // Showing ------------------------------------------------------------------------------------------------------

  /** Show the state; ask for what is not known. */
  show() {
    const { state } = this;
    this.layers.mark(state.layer);
    this.album.mark(state.picture);
    this.showControls();
    $("empty").hidden = Boolean(state.picture) || this.fresh;
    if (!state.picture || !state.layer) return;
    this.asks.picture.want(state.picture);
    this.asks.maps.want({ picture: state.picture, layer: state.layer });
    const target = state.sort === "contribution" ? this.target : null;
    this.asks.units.want({ picture: state.picture, layer: state.layer, target });
    if (!this.fresh || !this.known) return;
    const { unit, place } = this.seen;
    this.showSquare();
    this.maps.mark(state.unit ?? this.strongest, new Set(state.pins.filter((pin) => pin.layer === state.layer).map((pin) => pin.unit)));
    this.showAnswer();
    this.showUnitMap();
    if (state.view === "projection") this.asks.projection.want({ picture: state.picture, ...this.question(unit, place) });
    else {
      const { at, side } = this.square;
      this.asks.cover.want({ picture: state.picture, row: at[0], col: at[1], window: [side, side], fill: state.fill, target: this.target, layer: state.layer, unit });
    }
    this.pins.show(state.picture, state.pins, this.switches, state.scale === "shared", (id) => this.model.layers.find((l) => l.id === id).name);
    this.heatSoon();
    if (this.model.store?.layers.includes(state.layer)) this.asks.store.want({ layer: state.layer, unit: state.unit ?? this.strongest });
    else $("strongest").hidden = true;
    this.take.show(state.picture, this.call);
  }

  get switches() {
    const { method, overlap, contrast } = this.state;
    return { method, overlap, contrast };
  }

  question(unit, place) {
    const shared = this.state.scale === "shared" ? this.contrast : null;
    return { layer: this.state.layer, unit, row: place?.[0], col: place?.[1], ...this.switches, scale: shared };
  }

  /** What is seen, pointed at or not, as the server wants it said: for the call and the files. */
  get call() {
    const { state } = this, unit = state.unit ?? this.strongest;
    if (state.view === "projection") return { view: "projection", ...this.question(unit, state.place), scale: null };
    return { view: "occlusion", ...this.heatQuestion, ...(state.heat === "activity" ? { unit } : {}) };
  }

  get heatQuestion() {
    const { state } = this, { side } = this.square, activity = state.heat === "activity";
    return {
      window: [side, side], fill: state.fill, target: this.target, stride: state.stride,
      layer: activity ? state.layer : null, unit: activity ? state.unit ?? this.strongest : null,
    };
  }

  showControls() {
    const { state } = this, occlusion = state.view === "occlusion", colour = state.fill.startsWith("#");
    for (const radio of $("view").querySelectorAll("input")) radio.checked = radio.value === state.view;
    for (const field of $("settings").querySelectorAll("[data-view]")) field.hidden = field.dataset.view !== state.view;
    document.body.dataset.view = state.view;
    const values = { method: state.method, overlap: state.overlap, contrast: state.contrast, scale: state.scale, window: state.window,
      fill: colour ? "colour" : state.fill, stride: state.stride ?? "", "heat-of": state.heat, sort: state.sort };
    for (const [id, value] of Object.entries(values)) $(id).value = value;
    if (colour) $("colour").value = state.fill;
    $("colour").hidden = !colour;
    $("contrast-is").textContent = `${state.contrast} %`;
    $("window-is").textContent = `${state.window} × ${state.window} px`;
    $("method-means").textContent = METHODS[state.method];
    $("overlap-means").textContent = OVERLAPS[state.overlap];
    $("scale-means").textContent = SCALES[state.scale];
    $("fill-means").textContent = FILLS[colour ? "colour" : state.fill];
    $("heat-means").textContent = HEATS[state.heat];
    for (const option of $("method").options) option.disabled = !(this.layer?.methods ?? [option.value]).includes(option.value);
    for (const [id, on] of [["shown-projection", !occlusion], ["shown-heat", occlusion], ["crop-box", !occlusion], ["legend", occlusion && state.heat !== "prediction"], ["swatches", occlusion && state.heat === "prediction"]]) $(id).hidden = !on;
    $("unit-map-note").textContent = occlusion ? "its map, covered" : "its map";
    if (!occlusion) this.showProjection();
  }

  showSquare() {
    const { at, side } = this.square, on = this.state.view === "occlusion" && this.fresh;
    this.stage.occluder(on ? at : null, side, this.state.fill, this.model.window?.grey ?? "#808080");
    this.heat.at(on ? at : null);
  }

  showAnswer() {
    const { picture } = this, covered = this.state.view === "occlusion" && this.covered?.of === picture.id ? this.covered : null;
    this.answer.show((covered ?? picture).answer, picture.answer, this.target, Boolean(covered));
  }

  showProjection() {
    const { projected } = this;
    if (!projected || projected.of !== this.state.picture || projected.layer !== this.state.layer) return;
    const { place, box, unit, projection, crop } = projected, name = this.layer.name;
    $("shown-title").textContent = `${name} · unit ${unit}`;
    $("shown-note").textContent = `at row ${place[0]}, column ${place[1]} · ${Math.round(projected.ms)} ms`;
    if ($("projection").src !== projection) {
      $("projection").src = projection;
      $("projection").alt = `What drives unit ${unit} of ${name} at row ${place[0]}, column ${place[1]}`;
      $("crop").src = crop;
      for (const image of [$("projection"), $("crop")]) image.classList.toggle("coarse", box[2] - box[0] < 64);
    }
    this.stage.box(box);
    $("unit-title").textContent = `Unit ${unit}`;
    const strongest = this.known && this.state.place === null && this.pointed.place === null;
    this.facts([
      ["Activation", number(projected.activation)],
      [strongest ? "Strongest at" : "Place", `row ${place[0]}, col. ${place[1]}`],
      ["Field", `${box[2] - box[0]} × ${box[3] - box[1]} px`],
      ["Max pools on the way", projected.switches ?? "–"],
      ["Full contrast", `± ${number(projected.scale)}`],
    ]);
    this.showUnitMap();
  }

  showCovered() {
    const { covered } = this;
    if (!covered || covered.of !== this.state.picture) return;
    const { at, side } = this.square, { target, baseline } = covered;
    $("unit-title").textContent = covered.activity === null ? "Covered" : `Unit ${covered.unit}`;
    this.facts([
      ["Probability", percent(target.probability), `uncovered ${percent(baseline.probability)}`],
      ["Logit", number(target.logit), `uncovered ${number(baseline.logit)}`],
      ...(covered.activity === null ? [] : [["Sum of the map", number(covered.activity), `uncovered ${number(covered.activity_baseline)}`]]),
      ["Square at", `row ${at[0]}, col. ${at[1]} px`],
      ["Size", `${side} × ${side} px`],
    ]);
    this.showUnitMap();
  }

  facts(rows) {
    $("facts").replaceChildren(...rows.map(([name, value, beside]) => el("div", {}, el("dt", { textContent: name }),
      el("dd", {}, String(value), ...(beside ? [" ", el("span", { className: "soft", textContent: beside })] : [])))));
  }

  /** The map of the unit that is shown: the picture's own, or as it is with the square on it. */
  showUnitMap() {
    const occlusion = this.state.view === "occlusion", { unit } = this.seen;
    let map = unit === null ? null : this.maps.one(unit);
    if (occlusion && this.covered?.map && this.covered.unit === unit) {
      const [h, w, text] = this.covered.map;
      map = { h, w, bytes: Uint8Array.from(atob(text), (c) => c.charCodeAt(0)) };
    }
    if (!map) return;
    painted(map.bytes, map.w, map.h, $("unit-canvas"));
    const place = occlusion ? null : this.projected?.unit === unit ? this.projected.place : this.seen.place, [, h, w] = this.layer.shape;
    $("unit-place").hidden = !place || h * w < 2;
    if (place) Object.assign($("unit-place").style, { top: `${(100 * place[0]) / h}%`, left: `${(100 * place[1]) / w}%`, height: `${100 / h}%`, width: `${100 / w}%` });
  }

  showHeat() {
    const { state } = this;
    if (state.view !== "occlusion" || !this.fresh || !this.known) return this.heat.stop();
    const baseline = this.covered?.of === state.picture && this.covered.target.class === this.target ? this.covered.baseline.probability : this.picture.answer.find((row) => row.class === this.target)?.probability;
    this.heat.show({
      of: state.heat, window: this.square.side, labels: this.model.labels, baseline,
      label: this.model.labels?.[this.target] ?? `class ${this.target}`, activity: this.covered?.activity_baseline ?? null,
    });
    this.heat.want(state.picture, this.heatQuestion);
  }

  showOrder() {
    const { known, state } = this;
    if (!known || (state.sort === "contribution" && known.target !== this.target)) return;
    const by = { activation: known.peaks, contribution: known.contribution, number: null }[state.sort];
    const order = known.peaks.map((_, k) => k);
    if (by) order.sort((a, b) => by[b] - by[a] || a - b);
    this.maps.sort(order, by ?? known.peaks);
    const { shape, name } = this.layer, label = this.model.labels?.[known.target] ?? known.target;
    $("maps-title").textContent = `Maps of ${name}`;
    const what = state.sort !== "contribution" ? "with its strongest activation" : by ? `with what it adds to the logit of ${label}` : `no contribution: ${known.why ?? "it is not to be had here"}; with its activation`;
    $("maps-note").textContent = `${shape[0]}, each ${shape[1] * shape[2] > 1 ? "scaled by its own maximum, " : ""}${what}.`;
  }

  // Asking -------------------------------------------------------------------------------------------------------

  async askPicture(id, signal) {
    try {
      const picture = await opened(id, signal);
      if (id !== this.state.picture) return;
      this.picture = picture;
    } catch (error) {
      if (error.status !== 404) throw error;
      $("empty").textContent = "This picture is not here: drop its file, and the view opens";
      $("empty").hidden = false;
      return;
    }
    const { image, size, name, whole } = this.picture;
    $("empty").hidden = true;
    this.stage.picture(image.src, size, name);
    this.heat.picture(image, size);
    $("picture-name").textContent = name;
    $("picture-name").title = name;
    $("picture-size").textContent = whole ? `${size[0]} × ${size[1]} of ${whole[0]} × ${whole[1]} px` : `${size[0]} × ${size[1]} px`;
    this.album.put(id, name).then(() => {
      this.album.mark(this.state.picture);
      if (this.picture.id === id) showCut(this.picture, this.album.whole(id));
    });
    this.fine("picture");
    this.show();
  }

  async askMaps({ picture, layer }, signal) {
    const response = await ask(`pictures/${picture}/maps`, { layer }, { signal });
    const shape = response.headers.get("X-Shape").split(",").map(Number), bytes = new Uint8Array(await response.arrayBuffer());
    if (picture !== this.state.picture || layer !== this.state.layer) return;
    this.maps.fill(bytes, shape);
    this.fine("maps");
    this.showUnitMap();
  }

  async askUnits({ picture, layer, target }, signal) {
    const answer = await json(`pictures/${picture}/units`, { layer, target }, { signal });
    if (picture !== this.state.picture || layer !== this.state.layer) return;
    const before = this.known;
    this.units = { picture, layer, target, ...answer };
    this.fine("units");
    this.showOrder();
    this.show();
    if (!before) this.maps.reveal(this.state.unit ?? this.strongest);
  }

  async askProjection({ picture, ...question }, signal) {
    const answer = await json(`pictures/${picture}/projection`, question, { signal });
    if (picture !== this.state.picture || question.layer !== this.state.layer) return;
    this.projected = { ...answer, of: picture, layer: question.layer };
    this.learn(answer);
    this.fine("projection", answer.warning);
    if (this.state.view === "projection") this.showProjection();
    await $("projection").decode().catch(() => null);
    $("projection").dataset.shows = `${question.layer}/${answer.unit}@${answer.place.join(",")}`;
  }

  async askCover({ picture, ...question }, signal) {
    const answer = await json(`pictures/${picture}/cover`, question, { signal });
    if (picture !== this.state.picture) return;
    this.covered = { ...answer, of: picture, unit: question.unit };
    this.fine("cover");
    if (this.state.view !== "occlusion") return;
    $("bars").dataset.origin = answer.origin.join(",");
    this.showAnswer();
    this.showCovered();
    this.heatSoon();
  }

  async askStore({ layer, unit }, signal) {
    const { strongest, link } = await json("store/unit", { layer, unit }, { signal });
    $("strongest").hidden = !strongest.length;
    $("strongest-title").textContent = `Strongest in the scan for unit ${unit}`;
    $("strongest-note").replaceChildren(`${strongest.length} of ${this.model.store.pictures.toLocaleString("en")} pictures. `, ...(link ? [leading(link, "Its page in the atlas")] : []));
    $("nine").replaceChildren(...strongest.map((one) => {
      const image = el("img", { src: one.image, alt: one.name, title: one.name, loading: "lazy" });
      return el("li", {}, one.link ? leading(one.link, image) : image, el("p", { className: "soft", textContent: number(one.activation) }));
    }));
    this.fine("store");
  }

  // Saying -------------------------------------------------------------------------------------------------------

  words() {
    if (this.state.view === "occlusion" && this.covered) {
      const { target, baseline, answer } = this.covered, { at } = this.square;
      return `Square at row ${at[0]}, column ${at[1]}: ${answer[0].label} ${percent(answer[0].probability)}; ${target.label} ${percent(target.probability)}, uncovered ${percent(baseline.probability)}.`;
    }
    if (!this.projected) return "";
    const { unit, place, activation } = this.projected;
    return `Unit ${unit} of ${this.layer.name} at row ${place[0]}, column ${place[1]}: activation ${number(activation)}.`;
  }

  tell(text) {
    $("said").textContent = text;
  }

  notice(text) {
    $("notice").textContent = text;
    $("notice").hidden = !text;
  }

  fine(kind, remark = null) {
    if (remark) this.troubles.set(kind, remark);
    else this.troubles.delete(kind);
    this.trouble();
  }

  fail(kind, error) {
    if (error instanceof Gone) return this.lost();
    if (error.status === 403) return this.notice("The server was started again with another token: open the address that it printed. What is seen here stands in this address behind the #.");
    this.troubles.set(kind, error.message);
    this.trouble();
  }

  trouble() {
    const lines = [...new Set(this.troubles.values())];
    $("trouble").textContent = lines.join(" ");
    $("trouble").hidden = !lines.length;
  }

  /** The server does not answer: say so, and look again until it does. */
  async lost() {
    if (this.looking) return;
    this.looking = true;
    this.notice("The server has ended or was started again: this page goes on when it is back.");
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      try {
        await ask("health");
        break;
      } catch (error) {
        if (error instanceof Gone) continue;
        this.looking = false;
        return this.fail("health", error);
      }
    }
    this.looking = false;
    this.notice("");
    for (const kind of Object.values(this.asks)) kind.drop();
    this.start();
  }

  // Controls -----------------------------------------------------------------------------------------------------

  controls() {
    globalThis.themeButton($("theme"));
    $("view").addEventListener("change", (event) => this.set({ view: event.target.value }));
    for (const id of ["method", "overlap", "scale"]) $(id).addEventListener("change", () => this.set({ [id]: $(id).value }));
    $("contrast").addEventListener("input", () => this.set({ contrast: Number($("contrast").value) }));
    $("window").addEventListener("input", () => {
      const side = Number($("window").value), { at, side: before } = this.square;
      this.set({ window: side, at: at.map((v) => Math.max(0, Math.round(v + (before - side) / 2))) });
    });
    $("fill").addEventListener("change", () => this.set({ fill: $("fill").value === "colour" ? $("colour").value : $("fill").value }));
    $("colour").addEventListener("input", () => this.set({ fill: $("colour").value }));
    $("stride").addEventListener("change", () => this.set({ stride: Number($("stride").value) || null }));
    $("heat-of").addEventListener("change", () => this.set({ heat: $("heat-of").value }));
    $("sort").addEventListener("change", () => {
      this.set({ sort: $("sort").value });
      this.showOrder();
    });
    $("find").addEventListener("keydown", (event) => event.key === "Enter" && this.find());
    $("settings").addEventListener("submit", (event) => event.preventDefault());
    $("unpin").addEventListener("click", () => this.set({ pins: [] }));
    $("link").addEventListener("click", () => {
      // Without the token: who opens it has a server of their own.
      const link = `${location.origin}${location.pathname}${written(this.state)}`;
      this.take.copy(link, $("link"), "The link is copied. Paste it into the same page of a colleague with the same model.");
    });
    $("skip").addEventListener("click", (event) => {
      event.preventDefault();
      $("frame").focus();
    });
    $("heat").addEventListener("click", (event) => {
      const box = $("heat").getBoundingClientRect(), [h, w] = this.picture.size, { side } = this.square;
      const at = [((event.clientY - box.top) / box.height) * h, ((event.clientX - box.left) / box.width) * w];
      this.set({ at: this.stage.moved(at, [side / 2, side / 2]) });
    });
    for (const dialog of document.querySelectorAll("dialog")) {
      dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    }
    $("help").addEventListener("click", () => $("keys").showModal());
  }

  find() {
    const text = $("find").value.trim(), unit = Number(text), count = this.layer.shape[0];
    if (!/^\d+$/.test(text) || unit >= count) return this.tell(`No unit ${text} here: 0 to ${count - 1}.`);
    this.set({ unit, place: null });
    this.maps.reveal(unit);
  }

  /** Moving over the unit's own map moves the place. */
  unitMap() {
    const box = $("unit-map");
    const at = (event) => {
      const area = box.getBoundingClientRect(), [, h, w] = this.layer.shape;
      return [clamp(Math.floor(((event.clientY - area.top) / area.height) * h), 0, h - 1), clamp(Math.floor(((event.clientX - area.left) / area.width) * w), 0, w - 1)];
    };
    const live = () => this.state.view === "projection" && this.known;
    box.addEventListener("pointermove", (event) => live() && this.point({ unit: null, place: at(event) }));
    box.addEventListener("pointerleave", () => live() && this.point({ unit: null, place: null }));
    box.addEventListener("click", (event) => live() && this.set({ ...this.kept(), place: at(event) }));
    box.addEventListener("keydown", (event) => {
      const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      this.nudge(by, event.shiftKey);
    });
  }

  keys() {
    const layer = (by) => {
      const { layers } = this.model, at = layers.findIndex((one) => one.id === this.state.layer);
      this.set({ layer: layers[clamp(at + by, 0, layers.length - 1)].id, unit: null, place: null });
    };
    const pin = () => {
      const { unit, place } = this.seen, { layer: id, pins } = this.state;
      if (unit === null) return;
      this.set({ unit, place, pins: this.toggled(pins, { unit, place, layer: id }) });
    };
    const acts = {
      "?": () => $("keys").showModal(), "[": () => layer(-1), "]": () => layer(1), p: pin,
      v: () => this.set({ view: this.state.view === "projection" ? "occlusion" : "projection" }),
      "/": () => $("find").focus(), Escape: () => this.set({ place: null }),
    };
    addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented || !this.model) return;
      if (document.querySelector("dialog[open]") || event.target.closest("input:not([type=radio]):not([type=range]), select, textarea")) return;
      if (!acts[event.key]) return;
      event.preventDefault();
      acts[event.key]();
    });
  }
}

/** A link to a page of the atlas, in a page of its own: what is seen here stays. */
const leading = (name, ...children) => el("a", { href: atlas(name), target: "_blank", rel: "noopener" }, ...children);

/** The layer to begin with: the last one that still has places. */
const usual = (layers) => layers.findLast((layer) => layer.shape[1] * layer.shape[2] > 1 && layer.kind.startsWith("Conv")) ?? layers.findLast((layer) => layer.shape[1] * layer.shape[2] > 1) ?? layers.at(-1);

new Explore().start();
