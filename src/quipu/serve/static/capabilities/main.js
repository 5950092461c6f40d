/** Puts the page together: the list of capabilities, the one that is chosen, and the model. */

import { Drawer, setUpTheme } from "../chat/appearance.js";
import { toast } from "../chat/dialog.js";
import { byId, element } from "../chat/element.js";
import { drawIcons } from "../chat/icons.js";
import { recall, remember } from "../chat/store.js";
import { capabilities, models } from "./api.js";
import { CapabilityView } from "./capability.js";

const drawer = new Drawer();
const content = byId("content");
const views = new Map();
let known = [];

function current() {
  return known.find(({ id }) => `#${id}` === location.hash) ?? null;
}

function viewOf(capability) {
  if (!views.has(capability.id)) {
    views.set(capability.id, new CapabilityView(capability, { model: () => byId("model").value, onchange: drawList }));
  }
  return views.get(capability.id);
}

/** Show what the address names. */
function draw({ focused = false } = {}) {
  const chosen = current();
  drawList();
  document.title = chosen ? `${chosen.title} · quipu` : "Capabilities · quipu";
  content.replaceChildren(chosen ? viewOf(chosen).element : catalog());
  content.scrollTop = 0;
  if (focused) content.querySelector("h1").focus({ preventScroll: true });
}

function drawList() {
  byId("list").replaceChildren(element("ul", {}, ...known.map(({ id, title }) => element("li", {},
    element("a", { class: "entry", href: `#${id}`, "aria-current": id === current()?.id ? "page" : null }, title,
      views.get(id)?.busy && element("span", { class: "busy", role: "img", "aria-label": "running" }))))));
}

function catalog() {
  return element("div", { class: "catalog" },
    element("h1", { tabindex: "-1" }, "What can a model do for you?"),
    known.length === 0 && element("p", { class: "note" }, "There is nothing here yet."),
    element("ul", { class: "cards" }, ...known.map(({ id, title, description }) => element("li", {},
      element("a", { class: "card", href: `#${id}` }, element("h2", {}, title), element("p", {}, description))))));
}

function drawModels(served) {
  const select = byId("model");
  const chosen = select.value || recall("capability-model", null);
  select.replaceChildren(...served.map(({ id }) => element("option", { value: id, selected: id === chosen }, id)));
  select.disabled = served.length < 2;
}

async function load() {
  try {
    const [found, served] = await Promise.all([capabilities(), models()]);
    known = found;
    drawModels(served);
  } catch (error) {
    toast(`${error.message} ${error.remedy ?? ""}`);
  }
}

byId("model").addEventListener("change", (event) => remember("capability-model", event.target.value));
window.addEventListener("hashchange", () => {
  drawer.chosen();
  draw({ focused: true });
});
document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const chosen = current();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && chosen) viewOf(chosen).run();
  else if (event.key !== "Escape") return;
  else if (drawer.covering) drawer.close(byId("open-sidebar"));
  else if (chosen) viewOf(chosen).stop();
  event.preventDefault();
});

drawIcons();
setUpTheme();
await load();
draw();
document.documentElement.dataset.ready = "true";
