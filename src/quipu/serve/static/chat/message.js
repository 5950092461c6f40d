/** One message of the thread as elements. */

import { figures } from "./answering.js";
import { CallsView, ResultsView } from "./calling.js";
import { closing, textOf } from "./calls.js";
import { refused } from "./conversation.js";
import { copyButton } from "./copy.js";
import { element, grow, iconButton } from "./element.js";
import { MarkdownView } from "./markdown.js";
import { ProbabilityView } from "./probabilities.js";

/**
 * `actions` are what can be done: edit(node, text), regenerate(node), results(node, results), turn(node, sibling), score(node, signal).
 * `family` is the node and its alternatives. `named`: whether an answer says which model it is by.
 */
export function messageView(node, family, actions, named) {
  if (node.role === "tool") return new ResultsView(node, branches(node, family, actions));
  return node.role === "user" ? new QuestionView(node, family, actions) : new AnswerView(node, family, actions, named);
}

class QuestionView {
  constructor(node, family, actions) {
    this.node = node;
    this._actions = actions;
    this._pictures = node.images && element("div", { class: "shown-pictures" },
      ...node.images.map(({ name, url }) => element("img", { src: url, alt: name, title: name })));
    this._body = node.content && element("div", { class: "bubble" }, node.content);
    this._tools = element("div", { class: "tools" },
      branches(node, family, actions),
      iconButton("edit", "Edit message", () => this.edit()),
      copyButton("Copy message", () => node.content));
    this.element = element("article", { class: "message question", "data-id": node.id, "aria-label": "You" });
    this._show(this._body, this._tools);
  }

  update() {}

  /** A field in place of the text; saving begins a branch. */
  edit() {
    const field = element("textarea", { class: "edit-field", "aria-label": "Edit message", rows: "2" });
    field.value = this.node.content;
    const form = element("form", { class: "edit" }, field, element("div", { class: "edit-row" },
      element("span", { class: "note" }, "The message as it was stays on another branch."),
      element("button", { type: "button", class: "button", onclick: () => this._close() }, "Cancel"),
      element("button", { type: "submit", class: "button primary" }, "Send")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim() || this.node.images) this._actions.edit(this.node, field.value.trim());
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        this._close();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    this._show(form);
    grow(field);
    field.addEventListener("input", () => grow(field));
    field.focus();
  }

  _show(...below) {
    this.element.replaceChildren(...[this._pictures, ...below].filter(Boolean));
  }

  _close() {
    this._show(this._body, this._tools);
    this._tools.querySelector("[aria-label='Edit message']").focus();
  }
}

class AnswerView {
  constructor(node, family, actions, named) {
    this.node = node;
    this._actions = actions;
    this._named = named;
    this._text = new MarkdownView();
    this._calls = new CallsView((results) => actions.results(node, results));
    this._body = element("div", { class: "answer-body" }, this._text.element, this._calls.element);
    this._error = element("div", { class: "error", role: "alert", hidden: true });
    this._figures = element("p", { class: "figures" });
    this._probable = iconButton("probability", "Show token probabilities", () => this._toggleProbabilities(), { "aria-pressed": "false" });
    this._tools = element("div", { class: "tools" },
      branches(node, family, actions),
      copyButton("Copy answer", () => textOf(node)),
      iconButton("regenerate", "Regenerate answer", () => actions.regenerate(node)),
      this._probable,
      this._figures);
    this.element = element("article", { class: "message answer", "data-id": node.id, "aria-label": "Answer" },
      this._body, this._error, this._tools);
    this.update();
  }

  update() {
    const { node } = this;
    const streaming = node.status === "streaming";
    const { said, calls } = node.calls ? { said: node.content, calls: node.calls } : closing(node.content);
    this._text.update(said);
    this._calls.update(calls, Boolean(node.calls?.length) && node.status === "done" && !node.chosen);
    this.element.classList.toggle("streaming", streaming);
    this.element.classList.toggle("waiting", streaming && !node.content && !node.calls);
    this.element.setAttribute("aria-busy", streaming);
    this._tools.hidden = refused(node);
    this._showError();
    this._figures.replaceChildren(...figures(node, this._named).map(([text, title]) => element("span", { title }, text)));
  }

  _showError() {
    const { error } = this.node;
    this._error.hidden = !error;
    if (!error || this._error.childElementCount) return;
    this._error.append(
      element("p", { class: "error-message" }, error.message),
      element("p", { class: "error-remedy" }, [error.remedy, refused(this.node) && "The model has not seen this message."].filter(Boolean).join(" ")),
      element("div", { class: "error-row" },
        element("button", { type: "button", class: "button", onclick: () => this._actions.regenerate(this.node) }, "Try again"),
        refused(this.node) && element("button", { type: "button", class: "button", onclick: () => this._actions.reword(this.node) }, "Edit message")));
  }

  async _toggleProbabilities() {
    if (this._probabilities) return this._show(null);
    const view = new ProbabilityView();
    this._show(view);
    try {
      view.show(await this._actions.score(this.node));
    } catch (error) {
      view.fail(error);
    }
    return undefined;
  }

  _show(probabilities) {
    this._probabilities = probabilities;
    this._body.replaceChildren(...(probabilities ? [probabilities.element] : [this._text.element, this._calls.element]));
    this._probable.setAttribute("aria-pressed", probabilities !== null);
  }
}

/** "2 / 3" between arrows, or nothing where there is one. */
function branches(node, family, actions) {
  if (family.length < 2) return null;
  const place = family.indexOf(node);
  const turn = (name, label, other) =>
    iconButton(name, label, () => actions.turn(node, other), { disabled: !other });
  return element("div", { class: "branches", role: "group", "aria-label": "Versions" },
    turn("left", "Previous version", family[place - 1]),
    element("span", { "aria-label": `Version ${place + 1} of ${family.length}` }, `${place + 1} / ${family.length}`),
    turn("right", "Next version", family[place + 1]));
}
