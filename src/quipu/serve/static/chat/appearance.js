/** Light, dark, or as the system says; and which panels are open. */

import { byId } from "./element.js";
import { icon } from "./icons.js";
import { recall, remember } from "./store.js";

const THEMES = ["system", "light", "dark"];
const narrow = matchMedia("(max-width: 800px)");

export function setUpTheme() {
  const button = byId("theme");
  const show = () => {
    const { theme } = document.documentElement.dataset;
    const label = { system: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" }[theme];
    button.replaceChildren(icon(theme));
    button.setAttribute("aria-label", label);
    button.title = label;
  };
  button.addEventListener("click", () => {
    const { dataset } = document.documentElement;
    dataset.theme = THEMES[(THEMES.indexOf(dataset.theme) + 1) % THEMES.length];
    remember("theme", dataset.theme);
    show();
  });
  if (!THEMES.includes(document.documentElement.dataset.theme)) document.documentElement.dataset.theme = "system";
  show();
}

/** The list of conversations: beside the page where there is room, a drawer over it where there is not. */
export class Drawer {
  constructor() {
    this._open = !narrow.matches && recall("sidebar", true);
    byId("open-sidebar").addEventListener("click", () => this.open(byId("close-sidebar")));
    byId("close-sidebar").addEventListener("click", () => this.close(byId("open-sidebar")));
    byId("scrim").addEventListener("click", () => this.close(byId("open-sidebar")));
    narrow.addEventListener("change", () => this._set(!narrow.matches && recall("sidebar", true)));
    this._set(this._open);
  }

  /** Whether it lies over the page. */
  get covering() {
    return this._open && narrow.matches;
  }

  open(focused) {
    this._set(true);
    focused.focus();
  }

  close(focused) {
    this._set(false);
    focused?.focus();
  }

  /** After a choice from the list the drawer has done its work. */
  chosen() {
    if (narrow.matches) this._set(false);
  }

  _set(open) {
    this._open = open;
    if (!narrow.matches) remember("sidebar", open);
    document.body.dataset.sidebar = open ? "open" : "closed";
    byId("sidebar").inert = !open;
    byId("page").inert = open && narrow.matches;
    byId("open-sidebar").setAttribute("aria-expanded", open);
  }
}

export function setUpSettingsPanel() {
  const panel = byId("settings");
  const button = byId("open-settings");
  const set = (open) => {
    panel.hidden = !open;
    button.setAttribute("aria-expanded", open);
    document.body.dataset.settings = open ? "open" : "closed";
    byId("page").inert = open && narrow.matches;
    (open ? byId("close-settings") : button).focus();
  };
  button.addEventListener("click", () => set(panel.hidden));
  byId("close-settings").addEventListener("click", () => set(false));
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    set(false);
  });
}
