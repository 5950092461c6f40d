/** Questions to the user, and short messages. */

import { byId, element, iconButton } from "./element.js";

/**
 * Ask. With `field` ({label, value}) the answer is what was typed, else true; null when the user went away.
 */
export function ask({ title, text, field, confirm, danger = false }) {
  const input = field && element("input", { type: "text", value: field.value ?? "", autocomplete: "off", "aria-label": field.label });
  const accept = element("button", { type: "submit", class: `button ${danger ? "danger" : "primary"}` }, confirm);
  const form = element("form", {}, element("h2", { id: "dialog-title" }, title), text && element("p", {}, text), input,
    element("div", { class: "dialog-row" }, element("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Cancel"), accept));
  const dialog = element("dialog", { class: "dialog", "aria-labelledby": "dialog-title" }, form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    let answer = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault(); // nothing is sent anywhere
      answer = input ? input.value.trim() || null : true;
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    dialog.showModal();
    (input ?? accept).focus();
    input?.select();
  });
}

/** Show `rows` ([name, keys...]) until the user closes it. */
export function showShortcuts(rows) {
  const dialog = element("dialog", { class: "dialog", "aria-labelledby": "dialog-title" },
    element("div", { class: "dialog-head" }, element("h2", { id: "dialog-title" }, "Keyboard shortcuts"), iconButton("close", "Close", () => dialog.close())),
    element("dl", { class: "shortcuts" }, ...rows.map(([name, ...keys]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, ...keys.map((key) => element("kbd", {}, key)))))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** A message that goes away by itself. */
export function toast(text) {
  const shown = element("p", { class: "toast" }, text);
  byId("toasts").append(shown);
  setTimeout(() => shown.remove(), 6000);
}
