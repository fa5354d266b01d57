/** Colours of values from 0 to 1. */

// matplotlib's viridis and magma (CC0), as the figures of the library use them, at equal distances.
const VIRIDIS = "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1f9f88 27ad81 3dbc74 5cc863 81d34d aadc32 d5e21a fde725";
const MAGMA = "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 cf4070 e55064 f4695c fb8761 fea571 fec287 fde0a1 fcfdbf";
// One ink on paper, and its negative: from nothing over the accent to what stands out most.
const INK = { light: "f1ede6 e6c3ae d28a66 a63d1a 4a1707", dark: "22201d 4d3226 9a5537 f2986f fff3ea" };
// Okabe and Ito's colours, told apart with every common colour vision, in the order of the figures.
export const CLASSES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];
export const OTHER = "#8a8a8a";

/** 256 colours (r, g, b) between the given ones. */
function table(text) {
  const stops = text.split(" ").map((hex) => [0, 2, 4].map((k) => parseInt(hex.slice(k, k + 2), 16)));
  const made = new Uint8Array(768);
  for (let i = 0; i < 256; i++) {
    const x = (i / 255) * (stops.length - 1), k = Math.min(Math.floor(x), stops.length - 2);
    for (let c = 0; c < 3; c++) made[3 * i + c] = Math.round(stops[k][c] + (x - k) * (stops[k + 1][c] - stops[k][c]));
  }
  return made;
}

const TABLES = { probability: table(VIRIDIS), activity: table(MAGMA), light: table(INK.light), dark: table(INK.dark) };

/** Whether the page is dark now, by its system or by its reader. */
export const dark = () => Number(/\d+/.exec(getComputedStyle(document.body).backgroundColor)[0]) < 128;

/** The table of the maps, as the theme is. */
export const ink = () => TABLES[dark() ? "dark" : "light"];

/** The colour of `value` in 0 to 1, as CSS. */
export function colour(kind, value) {
  const t = TABLES[kind], i = 3 * Math.round(255 * Math.min(Math.max(value, 0), 1));
  return `rgb(${t[i]} ${t[i + 1]} ${t[i + 2]})`;
}

/** Paint bytes, `width` a row, as a canvas of that size. */
export function painted(bytes, width, height, canvas = document.createElement("canvas")) {
  const pixels = new ImageData(width, height), t = ink();
  for (let i = 0, o = 0; i < bytes.length; i++, o += 4) {
    const k = 3 * bytes[i];
    pixels.data[o] = t[k];
    pixels.data[o + 1] = t[k + 1];
    pixels.data[o + 2] = t[k + 2];
    pixels.data[o + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
