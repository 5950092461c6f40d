/** What a run brings: progress, the text as it is written, the output field by field, or what went wrong. */

import { copyButton } from "../chat/copy.js";
import { element } from "../chat/element.js";
import { download } from "../chat/transfer.js";
import { picturesView } from "./pictures.js";
import { labelOf, resolved, sentence } from "./schema.js";
import { spansView } from "./spans.js";

const VIEWS = {
  pictures: (output, given) => picturesView(output, given.images),
  spans: (output, given, { text_field: field }, enter) => spansView(output, given[field], enter),
};

/** What one run shows. Everything that a model said is put in as text. */
export class ResultView {
  /** `given` is what was sent, and `enter(values)` puts values into the form. */
  constructor(capability, given, enter) {
    this._capability = capability;
    this._given = given;
    this._enter = enter;
    this._state = element("p", { class: "state" }, element("span", { class: "busy" }), "Waiting for the model …");
    this._bar = element("progress", { "aria-label": "Progress", hidden: true });
    this._live = element("pre", { class: "live", hidden: true, tabindex: "0", "aria-label": "What the model writes" });
    this._live.append("");
    this._body = element("div", { class: "result-body" });
    this.element = element("section", { class: "result", "aria-label": "Result", "aria-busy": "true" },
      element("div", { class: "state-row" }, this._state, this._bar), this._live, this._body);
  }

  progress({ done, total, what }) {
    this._bar.hidden = false;
    this._bar.max = total || 1;
    this._bar.value = done;
    this._state.replaceChildren(element("span", { class: "busy" }), `${done} of ${total}, ${what}`);
    if (this._live.firstChild.data) this._live.firstChild.appendData("\n\n");
  }

  delta({ text }) {
    if (this._bar.hidden) this._state.lastChild.data = "The model writes …";
    this._live.hidden = false;
    const atEnd = this._live.scrollHeight - this._live.scrollTop - this._live.clientHeight < 40;
    this._live.firstChild.appendData(text);
    if (atEnd) this._live.scrollTop = this._live.scrollHeight;
  }

  result(result, seconds) {
    this._end();
    this._live.remove();
    const { output, text, notes, finish_reason: reason } = result;
    const told = [...notes.map(sentence), ...(reason === "length" ? ["An answer was cut off at its longest length."] : [])];
    this._body.replaceChildren(element("div", {},
      element("div", { class: "result-head" }, element("h2", {}, "Result"),
        copyButton("Copy the result", () => plain(output)),
        element("button", { type: "button", class: "button small", icon: "download", onclick: () => this._download(result) }, "JSON")),
      this._output(output),
      told.length > 0 && element("ul", { class: "notes", "aria-label": "Notes" }, ...told.map((note) => element("li", {}, note))),
      element("p", { class: "note counts" }, counts(result, seconds)),
      text && text !== Object.values(output)[0] && element("details", { class: "more" }, element("summary", {}, "What the model wrote"), element("pre", { class: "live", tabindex: "0" }, text))));
  }

  /** The fields; where the capability has a view of its own, below that and folded. */
  _output(output) {
    const fields = fieldsOf(output, this._capability.output, this._capability.output);
    const view = VIEWS[this._capability.view];
    if (!view) return fields;
    return element("div", {}, view(output, this._given, this._capability, this._enter),
      element("details", { class: "more fields-more" }, element("summary", {}, "All fields"), fields));
  }

  stopped() {
    this._end();
    this._body.replaceChildren(element("p", { class: "note" }, "Stopped."));
  }

  /** `error` is an ApiError; `again` runs it again. */
  failed({ message, remedy, text }, again) {
    this._end();
    if (text !== null) this._live.remove();
    this._body.replaceChildren(element("div", { class: "error", role: "alert" },
      element("p", { class: "error-message" }, message), remedy && element("p", {}, remedy),
      text !== null && element("div", {}, element("p", { class: "help" }, "What the model wrote:"), element("pre", { class: "live", tabindex: "0" }, text || "(nothing)")),
      element("button", { type: "button", class: "button small", onclick: again }, "Run again")));
  }

  _end() {
    this.element.setAttribute("aria-busy", "false");
    this._state.parentElement.remove();
  }

  _download(result) {
    const { type, ...rest } = result;
    download(`${this._capability.id}.json`, "application/json", JSON.stringify(rest, null, 1));
  }
}

/** The output as text: its first field if that is text, as on the command line, else all of it as JSON. */
export function plain(output) {
  const [first] = Object.values(output);
  return typeof first === "string" ? first : JSON.stringify(output, null, 2);
}

function counts({ model, usage }, seconds) {
  const { prompt_tokens: prompt, completion_tokens: written, prompt_tokens_details: details } = usage;
  const cached = details?.cached_tokens ? ` (${amount(details.cached_tokens)} cached)` : "";
  return `${model} · ${amount(prompt)} tokens read${cached} · ${amount(written)} written · ${seconds.toFixed(1)} s`;
}

function amount(value) {
  return value.toLocaleString("en");
}

/** The fields of an object, each under its name. */
function fieldsOf(values, schema, root) {
  return element("dl", { class: "output" }, ...Object.entries(values).map(([name, value], place) => {
    const kind = resolved(schema.properties?.[name] ?? {}, root);
    const wide = isWide(value) || (place === 0 && typeof value === "string" && value !== "");
    return element("div", { class: wide ? "wide" : null },
      element("dt", {}, element("span", { title: kind.description }, labelOf(name)),
        typeof value === "string" && wide && copyButton(`Copy ${labelOf(name).toLowerCase()}`, () => value)),
      kind.description && !wide && element("dd", { class: "help" }, kind.description),
      element("dd", { class: "value" }, shown(value, kind, root)));
  }));
}

function isWide(value) {
  return (typeof value === "string" && (value.length > 60 || value.includes("\n"))) || (typeof value === "object" && value !== null);
}

function shown(value, kind, root) {
  if (value === null || (Array.isArray(value) && value.length === 0)) return element("span", { class: "none" }, "none");
  if (value === "") return element("span", { class: "none" }, "empty");
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return element("div", { class: "said" }, value);
  if (typeof value !== "object") return `${value}`;
  if (!Array.isArray(value)) return kind.properties ? fieldsOf(value, kind, root) : element("pre", { class: "live", tabindex: "0" }, JSON.stringify(value, null, 2));
  const item = resolved(kind.items ?? {}, root);
  if (typeof value[0] === "object" && value[0] !== null) return tableOf(value, item, root);
  return element("ul", { class: "values" }, ...value.map((each) => element("li", {}, shown(each, item, root))));
}

function tableOf(rows, kind, root) {
  const names = Object.keys(rows[0]);
  return element("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, element("table", {},
    element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col", title: kind.properties?.[name]?.description }, labelOf(name))))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...names.map((name) =>
      element("td", {}, shown(row[name], resolved(kind.properties?.[name] ?? {}, root), root))))))));
}
