/** Elements without HTML in strings: what is put in as text stays text. */

import { icon } from "./icons.js";

/**
 * An element. Attributes that are functions become listeners (`onclick`), `true` an empty attribute, and `false`,
 * `null` and `undefined` none. `icon` puts an icon before the children.
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "icon") made.append(icon(value));
    else if (typeof value === "function") made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** A button that shows only an icon; `label` is its name and its tooltip. */
export function iconButton(name, label, onclick, attributes = {}) {
  return element("button", {
    type: "button", class: "icon-button", icon: name, "aria-label": label, title: label, onclick, ...attributes,
  });
}

/** The element of the page with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Make a field as high as its text. */
export function grow(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}
