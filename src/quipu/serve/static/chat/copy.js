/** Copying, also where the page is served without TLS and the browser has no clipboard to offer. */

import { element } from "./element.js";
import { icon } from "./icons.js";

/** A button that copies what `text()` gives and shows for a moment that it did. */
export function copyButton(label, text) {
  const button = element("button", { type: "button", class: "icon-button", "aria-label": label, title: label, icon: "copy" });
  button.addEventListener("click", async () => {
    const done = await copied(text());
    show(button, done ? "check" : "close", done ? "Copied" : "Copying is not allowed here");
    setTimeout(() => show(button, "copy", label), 1500);
  });
  return button;
}

function show(button, name, label) {
  button.replaceChildren(icon(name));
  button.setAttribute("aria-label", label);
  button.title = label;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", { class: "hidden", "aria-hidden": "true" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
