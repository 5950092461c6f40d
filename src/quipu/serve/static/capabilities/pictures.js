/** The view of an answer about pictures: the pictures, with the box that was found drawn on, above what was said. */

import { element } from "../chat/element.js";

/** `output` has `text`, and perhaps `box`, `count` and `differences`; `images` are data URLs. */
export function picturesView({ text, box = null, count = null, differences = [] }, images) {
  return element("div", { class: "looked" },
    element("div", { class: "looked-at" }, ...images.map((image, place) => picture(image, place, images.length, box))),
    differences.length > 0 ? element("ul", { class: "values" }, ...differences.map((each) => element("li", {}, each)))
      : element("p", { class: count === null ? "said" : "looked-count" }, text));
}

function picture(url, place, pictures, box) {
  const shown = element("div", { class: "looked-frame" }, element("img", { src: url, alt: `Picture ${place + 1} of ${pictures}` }));
  if (box) {
    const { left, top, right, bottom } = box;
    const drawn = element("div", { class: "looked-box", role: "img", "aria-label": "Where it is" });
    Object.assign(drawn.style, { left: share(left), top: share(top), width: share(right - left), height: share(bottom - top) });
    shown.append(drawn);
  }
  return shown;
}

function share(value) {
  return `${100 * value}%`;
}
