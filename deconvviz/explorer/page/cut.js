/** What of a picture the network sees, where that is not all: the whole of it, small, with the used part bright. */

import { $ } from "./dom.js";

/** Show it of a picture of which `whole` [h, w] and `used` [top, left, bottom, right] are known; `url` is all of it. */
export function showCut({ whole, used }, url) {
  const [h, w] = whole, [top, left, bottom, right] = used ?? [0, 0, h, w];
  // Less than a pixel is rounding.
  const hidden = !url || (top < 1 && left < 1 && bottom > h - 1 && right > w - 1);
  $("cut").hidden = hidden;
  if (hidden) return;
  const says = `Of ${h} × ${w} pixels it sees the bright part: rows ${near(top, h)} to ${near(bottom, h)}, columns ${near(left, w)} to ${near(right, w)}`;
  Object.assign($("cut-whole"), { src: url, alt: says });
  $("cut").title = says;
  Object.assign($("cut-used").style, {
    top: `${(100 * top) / h}%`, left: `${(100 * left) / w}%`, height: `${(100 * (bottom - top)) / h}%`, width: `${(100 * (right - left)) / w}%`,
  });
}

/** A border in whole pixels, inside of the picture: what is beyond is padding. */
const near = (value, most) => Math.min(Math.max(Math.round(value), 0), most);
