/** The form of one capability, made from the schema of its input. */

import { element } from "../chat/element.js";
import { read } from "./api.js";
import { FieldError, group } from "./fields.js";
import { sentence } from "./schema.js";

const SAMPLING = {
  type: "object",
  properties: {
    temperature: { type: "number", minimum: 0, maximum: 100, description: "How much chance has a say; 0 always takes the likeliest token" },
    top_p: { type: "number", exclusiveMinimum: 0, maximum: 1, description: "Draws only from the likeliest tokens that together reach this probability" },
    seed: { type: "integer", minimum: 0, description: "The same number gives the same answer again" },
    max_tokens: { type: "integer", minimum: 1, description: "Ends each answer of the model after this many tokens" },
  },
};
const FILES = ".txt,.md,.markdown,.html,.htm,.pdf,text/*,application/pdf";

export class Form {
  /** `onrun(body)` is called with what is to be sent, `onstop()` when it is to end. */
  constructor({ input, text_field: textField, title }, { onrun, onstop }) {
    this._onrun = onrun;
    this._input = group("", input, { root: input, big: textField, bare: true });
    this._sampling = group("", SAMPLING, { root: SAMPLING, bare: true });
    this._run = element("button", { type: "submit", class: "button primary" }, "Run");
    this._stop = element("button", { type: "button", class: "button", onclick: onstop, hidden: true }, "Stop");
    this.element = element("form", { class: "form", "aria-label": title, novalidate: true, autocomplete: "off" },
      this._input.element,
      element("details", { class: "more" }, element("summary", {}, "How tokens are chosen"),
        element("p", { class: "help" }, "Left empty, each is as it suits the capability."), this._sampling.element),
      element("div", { class: "run-row" }, this._run, this._stop, element("p", { class: "hint keys" }, "Ctrl+Enter runs, Esc stops.")));
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    if (textField) this._offerFile(this._input.fields.get(textField));
  }

  /** Send what was entered, or say what is wrong with it. */
  submit() {
    if (this._run.hidden) return;
    try {
      const sampling = this._sampling.value();
      this._onrun({ ...this._input.value(), ...(Object.keys(sampling).length > 0 && { sampling }) });
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      complain(error.control, error.message);
    }
  }

  /** Enter `values` by the names of fields. */
  set(values) {
    this._input.set(values);
  }

  set busy(busy) {
    const active = this.element.contains(document.activeElement) && document.activeElement.matches(".run-row button");
    this._run.hidden = busy;
    this._stop.hidden = !busy;
    if (active) (busy ? this._stop : this._run).focus({ preventScroll: true }); // the result is what is looked at
  }

  /** Say `message` at the field with the path `param`, as in "examples[0].input"; false if there is none. */
  fault(param, message) {
    const [first, ...path] = (param ?? "").match(/[^.[\]]+/g) ?? [];
    const control = first === "sampling" ? this._sampling.find(path) : first && this._input.find([first, ...path]);
    if (!control) return false;
    complain(control, message);
    return true;
  }

  /** A button that reads a file into the main text, and files dropped on it. */
  _offerFile({ element: place, control }) {
    const told = element("p", { class: "note file-note", role: "status" });
    const input = element("input", { type: "file", accept: FILES, hidden: true, "aria-label": "File to read" });
    const button = element("button", { type: "button", class: "button small", icon: "file", onclick: () => input.click() }, "Open a file");
    const take = async (file) => {
      told.textContent = `Reading ${file.name} …`;
      button.disabled = true;
      try {
        const { text, characters, pages, notes } = await read(file);
        control.value = text;
        control.complain("");
        const size = `${characters.toLocaleString("en")} characters`;
        told.textContent = [`${file.name}: ${pages ? `${pages} ${pages === 1 ? "page" : "pages"}, ` : ""}${size}.`, ...notes.map(sentence)].join(" ");
      } catch (error) {
        told.textContent = "";
        control.complain(`${error.message} ${error.remedy ?? ""}`.trim());
      }
      button.disabled = false;
    };
    input.addEventListener("change", () => {
      if (input.files[0]) take(input.files[0]);
      input.value = "";
    });
    control.addEventListener("dragover", (event) => event.preventDefault());
    control.addEventListener("drop", (event) => {
      if (!event.dataTransfer.files[0]) return;
      event.preventDefault();
      take(event.dataTransfer.files[0]);
    });
    control.after(element("div", { class: "file-row" }, button, told), input);
  }
}

function complain(control, message) {
  for (let place = control.closest("details"); place; place = place.parentElement.closest("details")) place.open = true;
  control.complain(message);
}
