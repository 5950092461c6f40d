/** A menu below a button. `items`: [{label, icon, danger, action}]. Arrow keys move, Escape and a click outside close. */

import { element } from "./element.js";

export function openMenu(button, items) {
  const menu = element("div", { class: "menu", role: "menu", popover: "auto" },
    ...items.map(({ label, icon, danger, action }) =>
      element("button", { type: "button", role: "menuitem", icon, class: danger ? "danger" : null, onclick: () => {
        menu.hidePopover();
        action();
      } }, label)));
  document.body.append(menu);
  menu.addEventListener("toggle", (event) => {
    if (event.newState === "open") return;
    button.setAttribute("aria-expanded", "false");
    menu.remove();
  });
  menu.addEventListener("keydown", (event) => move(event, menu));
  menu.showPopover();
  button.setAttribute("aria-expanded", "true");
  place(menu, button.getBoundingClientRect());
  menu.firstChild.focus();
}

function place(menu, anchor) {
  const below = anchor.bottom + 4 + menu.offsetHeight < innerHeight;
  menu.style.left = `${Math.max(8, Math.min(anchor.left, innerWidth - menu.offsetWidth - 8))}px`;
  menu.style.top = `${below ? anchor.bottom + 4 : anchor.top - menu.offsetHeight - 4}px`;
}

function move(event, menu) {
  const items = [...menu.children];
  const place = items.indexOf(document.activeElement);
  const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: -1 }[event.key];
  if (event.key === "Tab") menu.hidePopover();
  if (next === undefined) return;
  event.preventDefault();
  items.at(next % items.length).focus();
}
