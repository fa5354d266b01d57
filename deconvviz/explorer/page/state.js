/** The state of the page: all that decides what is seen. It is in the address, behind the #. */

export const DEFAULTS = {
  model: null, picture: null, layer: null, unit: null, place: null, view: "projection",
  method: "deconvnet", overlap: "add", contrast: 99.5, scale: "panel", sort: "activation", target: null,
  window: null, fill: "grey", at: null, stride: null, heat: "probability", pins: [],
};

const whole = (text) => (/^\d{1,6}$/.test(text) ? Number(text) : undefined);
const couple = (text) => (/^\d{1,6},\d{1,6}$/.test(text) ? text.split(",").map(Number) : undefined);
const one = (...allowed) => (text) => (allowed.includes(text) ? text : undefined);
const name = (text) => (text.length <= 300 ? text : undefined);

/** How each is read from the address; undefined is nothing that can be believed. */
const READ = {
  model: name, picture: (text) => (/^[0-9a-f]{4,64}$/.test(text) ? text : undefined), layer: name, unit: whole, place: couple,
  view: one("projection", "occlusion"), method: one("deconvnet", "guided", "gradient"), overlap: one("add", "overwrite", "max"),
  contrast: (text) => (text !== "" && Number(text) >= 90 && Number(text) <= 100 ? Number(text) : undefined),
  scale: one("panel", "shared"), sort: one("activation", "contribution", "number"), target: whole, window: whole,
  fill: (text) => (/^(grey|blur|noise|#[0-9a-f]{6})$/.test(text) ? text : undefined), at: couple,
  stride: (text) => (["4", "8", "16", "32"].includes(text) ? Number(text) : undefined),
  heat: one("probability", "prediction", "activity"),
  pins: (text) => text.split(";").map(readPin).filter(Boolean).slice(0, MOST_PINS),
};

export const MOST_PINS = 24;

/** A pin as text: unit, place if it is not the strongest one, layer. */
export const pinText = (pin) => [pin.unit, ...(pin.place ?? []), pin.layer].join(",");

function readPin(text) {
  const found = /^(\d{1,6})(?:,(\d{1,6}),(\d{1,6}))?,(.{1,300})$/.exec(text);
  if (!found) return null;
  return { unit: Number(found[1]), place: found[2] === undefined ? null : [Number(found[2]), Number(found[3])], layer: found[4] };
}

/** What `text`, the part of an address behind #, says. */
export function read(text) {
  const said = { ...DEFAULTS };
  for (const [key, value] of new URLSearchParams(text.replace(/^#/, ""))) {
    const understood = READ[key]?.(value);
    if (understood !== undefined) said[key] = understood;
  }
  return said;
}

/** `state` as the part of an address behind #: only what is not as always. */
export function written(state) {
  const query = new URLSearchParams();
  for (const [key, usual] of Object.entries(DEFAULTS)) {
    const value = key === "pins" ? state.pins.map(pinText).join(";") : state[key];
    if (value === null || value === "" || value === usual) continue;
    query.set(key, Array.isArray(value) ? value.join(",") : value);
  }
  // Commas and the like may stand in a fragment as they are: shorter, and they can be read.
  return "#" + query.toString().replaceAll("%2C", ",").replaceAll("%3B", ";").replaceAll("%3A", ":").replaceAll("%2F", "/");
}
