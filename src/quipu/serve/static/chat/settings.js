/** The settings of a conversation: system prompt, sampling and tools. */

import { byId, element } from "./element.js";
import { CONTROLS, numberOf, stopsOf, textOf } from "./sampling.js";

export class Settings {
  /** `onchange({system, sampling, tools})` is called when something that makes sense was entered. */
  constructor(onchange) {
    this._onchange = onchange;
    this._sampling = {};
    this._system = element("textarea", { id: "system", rows: "4", placeholder: "None", "aria-describedby": "system-help" });
    this._system.addEventListener("input", () => this._changed());
    this._tools = [];
    this._toolsField = element("textarea", { id: "tool-list", class: "code-field", rows: "3", placeholder: "None", spellcheck: "false", "aria-describedby": "tools-help tools-fault" });
    this._toolsField.addEventListener("input", () => this._enterTools());
    this._toolsFault = element("p", { class: "fault", id: "tools-fault", role: "alert" });
    this._rows = CONTROLS.map((control) => (control.lines ? this._stopRow(control) : this._numberRow(control)));
    byId("controls").append(
      element("section", {},
        element("label", { for: "system" }, "System prompt"), this._system,
        element("p", { class: "help", id: "system-help" }, "Tells the model who it is and how to answer, before the first message.")),
      element("section", { "aria-label": "Sampling" },
        element("div", { class: "section-head" }, element("h3", {}, "Sampling"),
          element("button", { type: "button", class: "button small", onclick: () => this._reset() }, "Reset")),
        ...this._rows.map((row) => row.element)),
      element("section", {},
        element("label", { for: "tool-list" }, "Tools"), this._toolsField, this._toolsFault,
        element("p", { class: "help", id: "tools-help" }, "Functions that answers may call: a JSON list as the OpenAI API has it. You enter what they return.")),
      element("p", { class: "help" }, "Settings belong to this conversation; a new one begins with those used last."));
  }

  show({ system, sampling, tools }) {
    this._system.value = system;
    this._tools = tools;
    this._toolsField.value = tools.length ? JSON.stringify(tools, null, 2) : "";
    this._faultOfTools("");
    this._sampling = { ...sampling };
    for (const row of this._rows) row.show(sampling[row.name]);
    this._mark();
  }

  _changed() {
    this._mark();
    this._onchange({ system: this._system.value, sampling: { ...this._sampling }, tools: this._tools });
  }

  _enterTools() {
    try {
      this._tools = toolsOf(this._toolsField.value);
      this._faultOfTools("");
      this._changed();
    } catch (error) {
      this._faultOfTools(error.message);
    }
  }

  _faultOfTools(message) {
    this._toolsFault.textContent = message;
    this._toolsField.setAttribute("aria-invalid", message !== "");
  }

  /** The button that opens the settings tells when they are not the defaults. */
  _mark() {
    const changed = Object.keys(this._sampling).length > 0 || this._system.value.trim() !== "" || this._tools.length > 0;
    const label = changed ? "Settings (changed)" : "Settings";
    byId("open-settings").classList.toggle("marked", changed);
    byId("open-settings").setAttribute("aria-label", label);
    byId("open-settings").title = label;
  }

  _reset() {
    this._sampling = {};
    for (const row of this._rows) row.show(undefined);
    this._changed();
  }

  _set(name, value) {
    if (value === null) delete this._sampling[name];
    else this._sampling[name] = value;
    this._changed();
  }

  _numberRow(control) {
    const { name, label, slider, step, help } = control;
    const id = `control-${name}`;
    const field = element("input", { id, type: "text", inputmode: "decimal", placeholder: "default", autocomplete: "off", "aria-describedby": `${id}-help ${id}-fault` });
    const fault = element("p", { class: "fault", id: `${id}-fault`, role: "alert" });
    const range = slider && element("input", { type: "range", min: slider[0], max: slider[1], step, "aria-label": `${label}, slider`, tabindex: "-1" });
    const show = (value) => {
      field.value = value ?? "";
      fault.textContent = "";
      field.removeAttribute("aria-invalid");
      if (range) range.value = value ?? resting(control);
      row.classList.toggle("changed", value !== undefined && value !== null);
    };
    const enter = (text) => {
      try {
        const value = numberOf(control, text);
        fault.textContent = "";
        field.removeAttribute("aria-invalid");
        if (range) range.value = value ?? resting(control);
        row.classList.toggle("changed", value !== null);
        this._set(name, value);
      } catch (error) {
        fault.textContent = error.message;
        field.setAttribute("aria-invalid", "true");
      }
    };
    field.addEventListener("input", () => enter(field.value));
    range?.addEventListener("input", () => {
      field.value = range.value;
      enter(range.value);
    });
    const row = element("div", { class: "control" },
      element("div", { class: "control-head" }, element("label", { for: id }, label), field), range, fault,
      element("p", { class: "help", id: `${id}-help` }, help));
    return { name, element: row, show };
  }

  _stopRow({ name, label, help }) {
    const id = `control-${name}`;
    const field = element("textarea", { id, rows: "2", placeholder: "none", "aria-describedby": `${id}-help` });
    field.addEventListener("input", () => {
      const stops = stopsOf(field.value);
      this._set(name, stops.length ? stops : null);
    });
    const row = element("div", { class: "control" }, element("label", { for: id }, label), field, element("p", { class: "help", id: `${id}-help` }, help));
    return { name, element: row, show: (stops) => { field.value = textOf(stops ?? []); } };
  }
}

/** The definitions that `text` has, or an Error that says what it should be; the server says what is wrong in one. */
function toolsOf(text) {
  if (text.trim() === "") return [];
  try {
    const tools = JSON.parse(text);
    if (Array.isArray(tools)) return tools;
  } catch {
    // Not JSON, or not yet.
  }
  throw new Error('Enter a list in JSON: [{"type": "function", "function": {"name": …}}]');
}

/** Where a slider stands while nothing is set: where it has no effect. */
function resting({ name }) {
  return { temperature: 1, top_p: 1, repetition_penalty: 1 }[name] ?? 0;
}
