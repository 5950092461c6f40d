/** One capability on the page: what it does, its form, and its last run. */

import { announce } from "../chat/announcer.js";
import { element } from "../chat/element.js";
import { run } from "./api.js";
import { Form } from "./form.js";
import { ResultView, plain } from "./result.js";

export class CapabilityView {
  /** `model()` is the model that is chosen; `onchange()` hears of a begin and an end. */
  constructor(capability, { model, onchange }) {
    this._capability = capability;
    this._model = model;
    this._onchange = onchange;
    this._form = new Form(capability, { onrun: (body) => this._start(body), onstop: () => this.stop() });
    this._place = element("div", {});
    this.element = element("article", { class: "capability", "aria-labelledby": "capability-title" },
      element("header", {}, element("h1", { id: "capability-title", tabindex: "-1" }, capability.title), element("p", { class: "about" }, capability.description)),
      this._form.element, this._place);
  }

  get busy() {
    return Boolean(this._running);
  }

  run() {
    this._form.submit();
  }

  stop() {
    this._running?.abort();
  }

  async _start(body) {
    if (this.busy) return;
    const view = new ResultView(this._capability, body, (values) => this._form.set(values));
    this._place.replaceChildren(view.element);
    show(view.element);
    this._set(new AbortController());
    announce("Running");
    const start = performance.now();
    try {
      for await (const event of run(this._capability.id, { ...body, model: this._model() }, this._running.signal)) {
        following(view.element, () => view[event.type]?.(event, (performance.now() - start) / 1000));
        if (event.type === "result") announce(`Result: ${plain(event.output).slice(0, 1000)}`);
      }
    } catch (error) {
      following(view.element, () => this._ended(error, view, body));
    }
    this._set(null);
  }

  _ended(error, view, body) {
    if (error.name === "AbortError") {
      view.stopped();
      announce("Stopped");
      return;
    }
    const again = () => this._start(body);
    const known = error.message ? error : new Error("Something went wrong.");
    view.failed({ message: known.message, remedy: error.remedy ?? "", text: error.text ?? null }, again);
    if (error.status === 400) this._form.fault(error.param, error.message);
  }

  _set(running) {
    this._running = running;
    this._form.busy = this.busy;
    this._onchange();
  }
}

/** As much of it as there is room for, its beginning before its end. */
function show(shown) {
  shown.scrollIntoView({ block: "nearest" });
}

/** What is seen to its end stays seen when `change` makes it longer; someone who looks elsewhere is left alone. */
function following(seen, change) {
  const follows = seen.getBoundingClientRect().bottom <= window.innerHeight + 1;
  change();
  if (follows) show(seen);
}
