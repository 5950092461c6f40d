/**
 * Form fields for the types that an input can have. A field is {element, value, set, find}: `value()` is what goes into
 * the request, undefined if it is left out, and throws a FieldError; `find(path)` is the innermost control there.
 */

import { element, iconButton } from "../chat/element.js";
import { readPhoto } from "../chat/photo.js";
import { labelOf, resolved, sentence } from "./schema.js";

export class FieldError extends Error {
  constructor(control, message) {
    super(message);
    this.control = control;
  }
}

let made = 0;

/** The field called `name`. `options`: {root, required, big} (`big`: the main text). */
export function field(name, schema, options) {
  const kind = resolved(schema, options.root);
  const make = makerOf(kind, options);
  return make(name, kind, options);
}

function makerOf(kind) {
  if (kind.enum || "const" in kind) return choice;
  if (kind.format === "data-url") return picture;
  if (kind.type === "object" && !kind.properties) return json; // of any fields
  return { string: text, integer: number, number, boolean: box, array: rows, object: group }[kind.type] ?? json;
}

/** A control with its label, help and place for a complaint. */
function labelled(name, kind, control, { inline = false, after = null } = {}) {
  control.id = `field-${++made}`;
  const help = kind.description && element("p", { class: "help", id: `${control.id}-help` }, kind.description);
  const fault = element("p", { class: "fault", id: `${control.id}-fault`, role: "alert" });
  control.setAttribute("aria-describedby", `${control.id}-fault${help ? ` ${control.id}-help` : ""}`);
  const label = element("label", { for: control.id }, labelOf(name));
  const complain = (message) => {
    fault.textContent = message;
    if (message) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  };
  for (const kindOfEvent of ["input", "change"]) control.addEventListener(kindOfEvent, () => complain(""));
  control.complain = (message) => {
    complain(message);
    control.focus();
  };
  return element("div", { class: inline ? "field inline" : "field" },
    inline ? element("div", { class: "inline-head" }, control, label) : label, help, !inline && control, after, fault);
}

function text(name, kind, { required, big }) {
  const control = element("textarea", { rows: big ? 8 : 1, class: big ? "big" : null, placeholder: kind.nullable ? "Not given" : null, maxlength: kind.maxLength });
  control.value = kind.default ?? "";
  return {
    element: labelled(name, kind, control),
    control,
    value() {
      if (control.value === "" && kind.nullable) return undefined;
      if (control.value.trim() === "" && required) throw new FieldError(control, "Enter something here.");
      return control.value;
    },
    set: (value) => { control.value = value ?? ""; },
    find: () => control,
  };
}

function number(name, kind, { required }) {
  const whole = kind.type === "integer";
  const control = element("input", { type: "text", inputmode: whole ? "numeric" : "decimal", autocomplete: "off", placeholder: required ? null : "Not given" });
  control.value = kind.default ?? "";
  return {
    element: labelled(name, { ...kind, description: [kind.description, range(kind)].filter(Boolean).map(sentence).join(" ") }, control),
    value() {
      const said = control.value.trim();
      if (said === "" && !required) return undefined;
      const value = Number(said);
      if (said === "" || !Number.isFinite(value) || (whole && !Number.isSafeInteger(value)) || outside(value, kind)) {
        throw new FieldError(control, `Enter ${whole ? "a whole number" : "a number"}${range(kind) && `: ${range(kind)}`}.`);
      }
      return value;
    },
    set: (value) => { control.value = value ?? ""; },
    find: () => control,
  };
}

function outside(value, { minimum = -Infinity, maximum = Infinity, exclusiveMinimum = -Infinity, exclusiveMaximum = Infinity }) {
  return value < minimum || value > maximum || value <= exclusiveMinimum || value >= exclusiveMaximum;
}

function range({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }) {
  const low = minimum !== undefined ? `at least ${minimum}` : exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : "";
  const high = maximum !== undefined ? `at most ${maximum}` : exclusiveMaximum !== undefined ? `below ${exclusiveMaximum}` : "";
  return [low, high].filter(Boolean).join(", ");
}

function choice(name, kind, { required }) {
  const options = kind.enum ?? [kind.const];
  const open = kind.nullable || (!required && kind.default === undefined);
  const control = element("select", {},
    open && element("option", { value: "" }, "Not given"),
    ...options.map((option, place) => element("option", { value: `${place}` }, `${option}`)));
  const set = (value) => { control.value = options.includes(value) ? `${options.indexOf(value)}` : open ? "" : "0"; };
  set(kind.default);
  return {
    element: labelled(name, kind, control),
    value: () => (control.value === "" ? undefined : options[Number(control.value)]),
    set,
    find: () => control,
  };
}

function box(name, kind, { required }) {
  if (kind.nullable) return choice(name, { ...kind, enum: [true, false] }, { required });
  const control = element("input", { type: "checkbox" });
  control.checked = kind.default ?? false;
  return {
    element: labelled(name, kind, control, { inline: true }),
    value: () => control.checked,
    set: (value) => { control.checked = Boolean(value); },
    find: () => control,
  };
}

/** A file of the person's, which is sent as a data URL; one can also be dropped or pasted on it. */
function picture(name, kind, { required }) {
  const control = element("input", { type: "file", accept: kind.contentMediaType });
  const shown = element("img", { class: "thumbnail", hidden: true });
  let url = "";
  const show = (value, title) => {
    url = value;
    shown.hidden = url === "";
    shown.alt = title;
    if (url) shown.src = url;
    else shown.removeAttribute("src");
  };
  const take = async (file) => {
    show("", "");
    if (!file) return;
    try {
      if (file.size === 0) throw new Error(`${file.name} is empty.`);
      const photo = await readPhoto(file);
      if (control.files[0] === file) show(photo.url, file.name); // else another one was chosen meanwhile
    } catch (error) {
      control.complain(error.message);
    }
  };
  const place = labelled(name, kind, control, { after: shown });
  control.addEventListener("change", () => take(control.files[0])); // after what takes an earlier complaint away
  for (const [kindOfEvent, items] of [["drop", "dataTransfer"], ["paste", "clipboardData"]]) {
    place.addEventListener(kindOfEvent, (event) => {
      if (event[items].files.length === 0) return;
      event.preventDefault();
      control.files = event[items].files;
      control.dispatchEvent(new Event("change"));
    });
  }
  place.addEventListener("dragover", (event) => event.preventDefault());
  return {
    element: place,
    value() {
      if (url === "" && required) throw new FieldError(control, "Choose a picture.");
      return url || undefined;
    },
    set: (value) => show(value ?? "", "The picture"),
    find: () => control,
  };
}

/** What no other field is for: JSON as it is. */
function json(name, kind, { required }) {
  const control = element("textarea", { rows: 3, spellcheck: "false", placeholder: "JSON" });
  const set = (value) => { control.value = value === undefined ? "" : JSON.stringify(value, null, 1); };
  set(kind.default);
  return {
    element: labelled(name, kind, control),
    value() {
      if (control.value.trim() === "" && !required) return undefined;
      try {
        return JSON.parse(control.value);
      } catch {
        throw new FieldError(control, "Enter JSON.");
      }
    },
    set,
    find: () => control,
  };
}

/** The fields of an object. */
export function group(name, kind, { root, big = null, bare = false }) {
  const required = kind.required ?? [];
  const fields = Object.entries(kind.properties ?? {}).map(([key, schema]) =>
    [key, field(key, schema, { root, required: required.includes(key), big: key === big })]);
  const children = fields.map(([, each]) => each.element);
  return {
    element: bare ? element("div", { class: "fields" }, ...children)
      : element("fieldset", { class: "field" }, element("legend", {}, labelOf(name)), kind.description && element("p", { class: "help" }, kind.description), ...children),
    fields: new Map(fields),
    value() {
      const values = fields.map(([key, each]) => [key, each.value()]);
      return Object.fromEntries(values.filter(([, value]) => value !== undefined));
    },
    set: (value) => { for (const [key, each] of fields) if (value && key in value) each.set(value[key]); },
    find([key, ...rest]) {
      const wanted = key === undefined ? fields[0]?.[1] : new Map(fields).get(key);
      return wanted?.find(rest) ?? null;
    },
  };
}

/** A list: a row for each element, which can be taken away, and a button for another. */
function rows(name, kind, { root, required }) {
  const { minItems = 0, maxItems = Infinity } = kind;
  const item = resolved(kind.items ?? {}, root);
  const singular = labelOf(name).replace(/s$/, "");
  const list = element("ol", { class: "rows" });
  const add = element("button", { type: "button", class: "button small add", icon: "plus", onclick: () => insert().find([])?.focus() }, `Add ${singular.toLowerCase()}`);
  const fault = element("p", { class: "fault", role: "alert" });
  add.complain = (message) => {
    fault.textContent = message;
    add.focus();
  };
  let parts = [];

  function insert() {
    const part = makerOf(item)(singular, item, { root, required: true, bare: true });
    const row = element("li", { class: "row" }, part.element, iconButton("close", `Remove ${singular.toLowerCase()}`, () => {
      parts = parts.filter((each) => each !== part);
      row.remove();
      number();
      add.focus();
    }));
    part.row = row;
    parts.push(part);
    list.append(row);
    number();
    return part;
  }

  function number() {
    fault.textContent = "";
    add.disabled = parts.length >= maxItems;
    parts.forEach(({ row }, place) => {
      row.setAttribute("aria-label", `${singular} ${place + 1}`);
      row.lastChild.setAttribute("aria-label", `Remove ${singular.toLowerCase()} ${place + 1}`);
      row.lastChild.disabled = parts.length <= minItems;
    });
  }

  function set(values) {
    for (const { row } of parts) row.remove();
    parts = [];
    for (const value of values ?? []) insert().set(value);
    while (parts.length < Math.max(minItems, required ? 1 : 0)) insert();
    number();
  }

  set(kind.default);
  return {
    element: element("fieldset", { class: "field" }, element("legend", {}, labelOf(name)),
      kind.description && element("p", { class: "help" }, kind.description), list, add, fault),
    value() {
      if (parts.length === 0 && (kind.nullable || !required)) return undefined;
      return parts.map((part) => part.value());
    },
    set,
    find([place, ...rest]) {
      return parts[place]?.find(rest) ?? add;
    },
  };
}
