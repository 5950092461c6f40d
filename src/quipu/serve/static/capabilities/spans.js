/** The view of an output that was taken from a text: the text with the places marked, beside the values. */

import { announce } from "../chat/announcer.js";
import { element } from "../chat/element.js";
import { labelOf } from "./schema.js";

/** `output` has `records`, `values` and `json_schema`; `text` is what they come from; `enter` fills in the form. */
export function spansView(output, text, enter) {
  const view = new SpansView(output.values);
  const source = view.source(text);
  const records = view.records(output.records);
  return element("div", {}, element("div", { class: "spans" },
    element("section", { class: "spans-text", "aria-label": "Text with the places of the values", tabindex: "0" }, source),
    element("section", { class: "spans-records", "aria-label": "Values" }, records)),
  element("button", { type: "button", class: "button small", onclick: () => edit(output.json_schema, enter) }, "Edit what was wanted"));
}

/** What was extracted, also where a sentence said it, is then there to be changed and used again. */
function edit(schema, enter) {
  enter({ wanted: JSON.stringify(schema, null, 1), notation: "auto" });
  announce("The schema is in the form");
}

class SpansView {
  constructor(values) {
    this._values = new Map(values.map((value) => [value.path, value]));
    this._buttons = new Map();
    this._marks = new Map();
  }

  /** `text` with a mark over each place; places that overlap share one. */
  source(text) {
    const said = element("div", { class: "said" });
    let written = 0;
    for (const { start, end, paths } of places([...this._values.values()], text)) {
      const mark = element("mark", { tabindex: "-1", title: paths.map(named).join(", "), onclick: () => this._show(paths[0], this._buttons) }, text.slice(start, end));
      for (const path of paths) this._marks.set(path, mark);
      said.append(text.slice(written, start), mark);
      written = end;
    }
    said.append(text.slice(written));
    return said;
  }

  /** One record as a list of its fields, several as a table. */
  records(records) {
    if (records.length === 0) return element("p", { class: "none" }, "No records.");
    if (records.length === 1) return this._fields(records[0], "[0]");
    return this._table(records, "");
  }

  _fields(record, path) {
    return element("table", { class: "spans-fields" }, element("tbody", {}, ...Object.entries(record).map(([name, value]) =>
      element("tr", {}, element("th", { scope: "row" }, labelOf(name)), element("td", {}, this._shown(value, `${path}.${name}`))))));
  }

  _table(rows, path) {
    const names = [...new Set(rows.flatMap(Object.keys))];
    return element("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Records" }, element("table", {},
      element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, labelOf(name))))),
      element("tbody", {}, ...rows.map((row, place) => element("tr", {}, ...names.map((name) =>
        element("td", {}, name in row && this._shown(row[name], `${path}[${place}].${name}`))))))));
  }

  _shown(value, path) {
    if (Array.isArray(value)) return this._list(value, path);
    if (typeof value === "object" && value !== null) return this._fields(value, path);
    const known = this._values.get(path);
    const mark = this._marks.get(path);
    const words = value === null ? element("span", { class: "none" }, "none") : typeof value === "boolean" ? (value ? "yes" : "no") : `${value}`;
    const sure = known?.confidence ?? null;
    const told = [
      sure !== null && `${Math.round(100 * sure)} % sure`,
      !mark && (typeof value === "string" || typeof value === "number") && "not in the text",
    ].filter(Boolean).join(", ");
    const shown = mark ? element("button", { type: "button", class: "spans-value", title: "Show it in the text", onclick: () => this._show(path, this._marks) }, words)
      : element("span", { class: "spans-value" }, words);
    if (mark) this._buttons.set(path, shown);
    return element("div", {}, shown, told && element("span", { class: "spans-sure" }, told));
  }

  _list(values, path) {
    if (values.length === 0) return element("span", { class: "none" }, "none");
    if (values.every((value) => typeof value === "object" && value !== null && !Array.isArray(value))) return this._table(values, path);
    return element("ul", { class: "values" }, ...values.map((value, place) => element("li", {}, this._shown(value, `${path}[${place}]`))));
  }

  /** Bring the other side of `path` into view and mark both. */
  _show(path, side) {
    const found = side.get(path);
    if (!found) return;
    for (const each of [...this._marks.values(), ...this._buttons.values()]) each.classList.remove("chosen");
    this._marks.get(path)?.classList.add("chosen");
    this._buttons.get(path)?.classList.add("chosen");
    found.scrollIntoView({ block: "nearest", inline: "nearest" });
    found.focus({ preventScroll: true });
  }
}

function named(path) {
  return path.replace(/^\[0\]\./, "");
}

/** Where marks begin and end, in UTF-16 units as strings here have them; the server counts whole characters. */
function places(values, text) {
  const spans = values.filter(({ start }) => start !== null).sort((one, other) => one.start - other.start || one.end - other.end);
  const merged = [];
  for (const { start, end, path } of spans) {
    const last = merged.at(-1);
    if (last && start < last.end) {
      last.end = Math.max(last.end, end);
      last.paths.push(path);
    } else merged.push({ start, end, paths: [path] });
  }
  if (!/[\ud800-\udbff]/.test(text)) return merged;
  let unit = 0;
  let character = 0;
  const unitOf = (wanted) => {
    for (; character < wanted && unit < text.length; character += 1) unit += text.codePointAt(unit) > 0xffff ? 2 : 1;
    return unit;
  };
  return merged.map(({ start, end, paths }) => ({ start: unitOf(start), end: unitOf(end), paths }));
}
