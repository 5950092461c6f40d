/** What an answer calls, and what the tools returned, as elements. */

import { argumentsOf, inOneLine, plain } from "./calls.js";
import { element, grow } from "./element.js";
import { icon } from "./icons.js";

/** The calls of an answer; where they wait for results, fields for those, which `send([{id, name, content}])` takes. */
export class CallsView {
  constructor(send) {
    this._send = send;
    this._shown = "";
    this.element = element("div", { class: "calls", hidden: true });
  }

  /** `calls`: [{id, name, arguments}] with the arguments in JSON, or [{name, given}]. */
  update(calls, waiting) {
    const now = JSON.stringify([calls.map((call) => [call.name, call.arguments ?? inOneLine(call)]), waiting]);
    if (now === this._shown) return;
    this._shown = now;
    this.element.hidden = calls.length === 0;
    this.element.replaceChildren(...calls.map(card), ...(waiting ? [this._form(calls)] : []));
  }

  _form(calls) {
    const fields = calls.map(({ name }) => {
      const label = calls.length > 1 ? `What ${name} returns` : "What it returns";
      const field = element("textarea", { rows: "1", "aria-label": `What ${name} returns`, placeholder: label });
      field.addEventListener("input", () => grow(field));
      return field;
    });
    const form = element("form", { class: "results" }, ...fields,
      element("div", { class: "edit-row" },
        element("span", { class: "note" }, "The model goes on with what you enter."),
        element("button", { type: "submit", class: "button primary" }, calls.length > 1 ? "Send results" : "Send result")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this._send(calls.map(({ id, name }, place) => ({ id, name, content: fields[place].value })));
    });
    return form;
  }
}

function card(call) {
  const given = call.given ?? argumentsOf(call.arguments);
  const shown = given
    ? element("dl", {}, ...given.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, plain(value))]))
    : element("code", {}, call.arguments); // still being written
  return element("section", { class: "call", "aria-label": `Calls ${inOneLine({ name: call.name, given })}` },
    element("p", { class: "call-head" }, icon("tool"), element("span", {}, "calls"), element("code", {}, call.name)),
    (!given || given.length > 0) && shown);
}

/** The results of an answer's calls, as a message. */
export class ResultsView {
  constructor(node, branches) {
    this.element = element("article", { class: "message returned", "data-id": node.id, "aria-label": "Results" },
      ...node.results.map(({ name, content }) => element("section", { class: "call" },
        element("p", { class: "call-head" }, icon("tool"), element("code", {}, name), element("span", {}, "returned")),
        element("p", { class: "result" }, content || "nothing"))),
      branches && element("div", { class: "tools" }, branches));
  }

  update() {}

  edit() {}
}
