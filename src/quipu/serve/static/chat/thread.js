/** The messages of the conversation that is open, and staying at their end while an answer grows. */

import { answeredBy, shown, siblings } from "./conversation.js";
import { byId, element } from "./element.js";
import { messageView } from "./message.js";

const NEAR = 80; // pixels from the end that still count as the end
const STARTERS = [
  "Explain how rainbows form, to a child of ten",
  "Write a short poem about knots in wool",
  "Write a Python function that finds the primes below n",
];

export class Thread {
  /** `actions` are those of `messageView`, and start(text). */
  constructor(actions) {
    this._actions = actions;
    this._place = byId("thread");
    this._scroller = byId("scroller");
    this._latest = byId("latest");
    this._following = true;
    this._scroller.addEventListener("scroll", () => this._watch(), { passive: true });
    this._latest.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this._keepUp()).observe(this._place);
    new ResizeObserver(() => this._keepUp()).observe(this._scroller);
  }

  show(conversation) {
    const nodes = shown(conversation);
    const named = answeredBy(conversation).size > 1;
    this._views = new Map(nodes.map((node) => [node.id, messageView(node, siblings(conversation, node), this._actions, named)]));
    const children = [...this._views.values()].map((view) => view.element);
    this._place.replaceChildren(...(children.length ? children : [this._welcome()]));
    this._place.classList.toggle("empty", children.length === 0);
    this._keepUp();
  }

  /** Draw `node` again, soon: answers may grow faster than screens are drawn. */
  update(node) {
    this._waiting ??= new Set();
    if (this._waiting.size === 0) requestAnimationFrame(() => this._draw());
    this._waiting.add(node);
  }

  edit(node) {
    this._views.get(node.id)?.edit();
  }

  focus(node, selector) {
    this._views.get(node.id)?.element.querySelector(selector)?.focus();
  }

  toEnd() {
    this._following = true;
    this._scroller.scrollTop = this._scroller.scrollHeight;
    this._watch();
  }

  _draw() {
    for (const node of this._waiting) this._views.get(node.id)?.update();
    this._waiting.clear();
  }

  _keepUp() {
    if (this._following) this._scroller.scrollTop = this._scroller.scrollHeight;
    this._watch();
  }

  _watch() {
    const { scrollHeight, scrollTop, clientHeight } = this._scroller;
    this._following = scrollHeight - scrollTop - clientHeight < NEAR;
    this._latest.hidden = this._following;
  }

  _welcome() {
    return element("div", { class: "welcome" },
      element("h2", {}, "What would you like to know?"),
      element("div", { class: "starters" }, ...STARTERS.map((text) =>
        element("button", { type: "button", class: "starter", onclick: () => this._actions.start(text) }, text))));
  }
}
