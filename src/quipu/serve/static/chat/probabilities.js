/** An answer as its tokens, coloured by how likely the model found each; alternatives on hover and focus. */

import { element } from "./element.js";

const STEPS = [
  [0.9, "90 % and more"],
  [0.6, "60 %"],
  [0.3, "30 %"],
  [0.1, "10 %"],
  [0, "less"],
];

export class ProbabilityView {
  constructor() {
    this._tip = element("div", { class: "tip", role: "tooltip", id: "tip", popover: "manual" });
    this._tokens = element("div", { class: "tokens", role: "group", "aria-label": "Tokens; arrow keys move between them" });
    this._head = element("p", { class: "note" }, "Scoring the answer…");
    this.element = element("div", { class: "probabilities" }, this._head, this._tokens, this._tip);
    for (const kind of ["pointerover", "focusin"]) this._tokens.addEventListener(kind, (event) => this._point(event.target));
    for (const kind of ["pointerleave", "focusout"]) this._tokens.addEventListener(kind, () => this._hide());
    this._tokens.addEventListener("keydown", (event) => this._move(event));
  }

  /** `tokens`: [{text, logprob, top}], as `api.score` gives them. */
  show(tokens) {
    this._head.replaceChildren(...legend(tokens));
    this._spans = joined(tokens).map((token, place) => {
      const span = element("span", { class: `token p${step(token.logprob)}`, tabindex: place === 0 ? "0" : "-1" }, token.text);
      span.token = token;
      return span;
    });
    this._tokens.replaceChildren(...this._spans);
  }

  fail(error) {
    this._head.setAttribute("role", "alert");
    this._head.textContent = [error.message, error.remedy].filter(Boolean).join(" ");
  }

  _point(span) {
    if (!span.token) return;
    this._pointed?.removeAttribute("aria-describedby");
    this._pointed = span;
    span.setAttribute("aria-describedby", "tip");
    this._tip.replaceChildren(...explanation(span.token));
    if (!this._tip.matches(":popover-open")) this._tip.showPopover();
    const place = span.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = this._tip;
    const below = place.bottom + 6 + offsetHeight < innerHeight;
    this._tip.style.left = `${Math.max(8, Math.min(place.left, innerWidth - offsetWidth - 8))}px`;
    this._tip.style.top = `${below ? place.bottom + 6 : place.top - offsetHeight - 6}px`;
  }

  _hide() {
    if (this._tip.matches(":popover-open")) this._tip.hidePopover();
  }

  _move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = step && this._spans[this._spans.indexOf(event.target) + step];
    if (event.key === "Escape") this._hide();
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

function step(logprob) {
  return STEPS.findIndex(([least]) => Math.exp(logprob) >= least);
}

function percent(logprob) {
  const value = 100 * Math.exp(logprob);
  return value >= 99.95 ? "100 %" : value < 0.1 ? "< 0.1 %" : `${value.toFixed(1)} %`;
}

function explanation({ names, logprob, top }) {
  return [
    element("p", { class: "tip-token" }, element("code", {}, shown(names)), element("strong", {}, percent(logprob))),
    element("p", { class: "note" }, `log-probability ${(logprob || 0).toFixed(3).replace("-0.000", "0.000")}`),
    element("ol", { class: "alternatives" }, ...top.slice(0, 6).map((other) =>
      element("li", {}, element("code", {}, shown(other.text)),
        element("progress", { max: "1", value: String(Math.exp(other.logprob)), "aria-hidden": "true" }),
        element("span", {}, percent(other.logprob))))),
  ];
}

function legend(tokens) {
  const sum = tokens.reduce((total, { logprob }) => total + logprob, 0);
  const perplexity = Math.exp(-sum / Math.max(1, tokens.length));
  return [
    element("span", { class: "legend" }, "Probability ", ...STEPS.map(([, name], place) => element("span", { class: `token p${place}` }, name))),
    element("span", { title: "How many tokens the model hesitated between, on average" }, `perplexity ${perplexity.toFixed(2)}`),
  ];
}

/** Tokens that are parts of one character ("bytes:\xe2\x82") become one, or nobody could read it. */
function joined(tokens) {
  const found = [];
  let parts = [];
  for (const token of tokens) {
    if (token.text.startsWith("bytes:")) {
      parts.push(token);
      const whole = decoded(parts.map((part) => part.text.slice(6)).join(""));
      if (whole === null) continue;
      const logprob = parts.reduce((total, part) => total + part.logprob, 0);
      found.push({ text: whole, names: whole, logprob, top: parts[0].top });
      parts = [];
    } else {
      found.push(...parts.map((part) => ({ ...part, names: part.text })), { ...token, names: token.text });
      parts = [];
    }
  }
  return [...found, ...parts.map((part) => ({ ...part, names: part.text }))];
}

function decoded(escapes) {
  const bytes = Uint8Array.from(escapes.split("\\x").slice(1), (digits) => Number.parseInt(digits, 16));
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

function shown(text) {
  const visible = text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣");
  return visible.replace(/\p{C}/gu, (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
}
