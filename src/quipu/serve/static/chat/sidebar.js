/** The list of conversations: by age, searched, and what can be done with one. */

import { matches } from "./conversation.js";
import { byId, element, iconButton } from "./element.js";
import { openMenu } from "./menu.js";

const DAY = 24 * 60 * 60 * 1000;

export class Sidebar {
  /** `actions`: open, rename, remove, exportJson, exportMarkdown, each of a conversation. */
  constructor(actions) {
    this._actions = actions;
    this._list = byId("conversations");
    this._search = byId("search");
    this._search.addEventListener("input", () => this._draw());
    this._search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "Enter") {
        event.preventDefault();
        this._list.querySelector("button")?.focus();
      }
    });
  }

  show(conversations, active, busy) {
    Object.assign(this, { _conversations: conversations, _active: active, _busy: busy });
    this._draw();
  }

  _draw() {
    const query = this._search.value;
    const found = this._conversations
      .filter((conversation) => conversation.root && matches(conversation, query))
      .sort((one, other) => other.updated - one.updated);
    const groups = grouped(found);
    const empty = query ? `Nothing found for “${query}”.` : "Your conversations will be listed here.";
    this._list.replaceChildren(...(found.length
      ? [...groups].map(([title, each]) => element("section", {}, element("h2", {}, title), element("ul", {}, ...each.map((one) => this._row(one)))))
      : [element("p", { class: "note", role: "status" }, empty)]));
  }

  _row(conversation) {
    const current = conversation.id === this._active;
    const title = conversation.title || "Untitled";
    return element("li", { class: current ? "current" : null },
      element("button", { type: "button", class: "conversation", "aria-current": current && "page", title, onclick: () => this._actions.open(conversation) },
        element("span", {}, title), this._busy.has(conversation.id) && element("span", { class: "busy", "aria-label": "being answered" })),
      iconButton("more", `More about ${title}`, (event) => this._menu(event.currentTarget, conversation), { "aria-haspopup": "menu" }));
  }

  _menu(button, conversation) {
    const act = (name) => () => this._actions[name](conversation);
    openMenu(button, [
      { label: "Rename", icon: "edit", action: act("rename") },
      { label: "Export as Markdown", icon: "download", action: act("exportMarkdown") },
      { label: "Export as JSON", icon: "download", action: act("exportJson") },
      { label: "Delete", icon: "trash", danger: true, action: act("remove") },
    ]);
  }
}

function grouped(conversations) {
  const groups = new Map();
  for (const conversation of conversations) {
    const name = age(conversation);
    groups.set(name, [...(groups.get(name) ?? []), conversation]);
  }
  return groups;
}

function age({ updated }) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (updated >= midnight) return "Today";
  if (updated >= midnight - DAY) return "Yesterday";
  if (updated >= midnight - 7 * DAY) return "Last 7 days";
  if (updated >= midnight - 30 * DAY) return "Last 30 days";
  return "Older";
}
