/**
 * Markdown to elements. What a model writes is hostile text: raw HTML is shown as it was typed, images become links
 * (loading one would tell its server who reads what), links lead to http, https or mailto only, and everything passes
 * DOMPurify with a short list of what may be there.
 */

import DOMPurify from "../dompurify/purify.es.mjs";
import highlighter from "../highlight/highlight.min.js";
import { Marked } from "../marked/marked.esm.js";
import { copyButton } from "./copy.js";
import { element } from "./element.js";

const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "class", "href", "start", "title"],
  ADD_URI_SAFE_ATTR: ["align", "start"], // no addresses, though they would have to look like one otherwise
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const MAX_MARKDOWN = 200_000; // characters; beyond, text stays text: parsing would make the page wait
const MAX_HIGHLIGHT = 30_000;

function escaped(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ raw }) => escaped(raw),
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    image: ({ href, text }) => `<a href="${escaped(href)}">Image: ${escaped(text || href)}</a>`,
    code: ({ text, lang }) => {
      const language = /^[\w+#.-]{1,30}/.exec(lang ?? "")?.[0] ?? "";
      return `<pre><code class="language-${language}">${escaped(text)}</code></pre>`;
    },
  },
});

/** A text that grows: only the blocks that changed are made again, so that what one has selected stays. */
export class MarkdownView {
  constructor() {
    this.element = element("div", { class: "prose" });
    this._raws = [];
  }

  update(text) {
    const blocks = parsed(text);
    blocks.forEach((block, place) => {
      if (this._raws[place] === block.raw && this._links === block.links) return;
      const made = element("div", { class: "block" }, block.render());
      if (place < this.element.children.length) this.element.children[place].replaceWith(made);
      else this.element.append(made);
    });
    while (this.element.children.length > blocks.length) this.element.lastChild.remove();
    this._raws = blocks.map((block) => block.raw);
    this._links = blocks[0]?.links;
  }
}

function parsed(text) {
  if (text.length > MAX_MARKDOWN) return [plain(text)];
  try {
    const tokens = marked.lexer(text);
    const links = JSON.stringify(tokens.links); // a definition changes what stands before it
    return tokens
      .filter((token) => token.type !== "space")
      .map((token) => ({ raw: token.raw, links, render: () => decorated(safe(marked.parser([token]))) }));
  } catch {
    return [plain(text)]; // nested deeper than the parser can follow
  }
}

function plain(text) {
  return { raw: text, links: "", render: () => element("p", { class: "plain" }, text) };
}

function safe(html) {
  return DOMPurify.sanitize(html, ALLOWED);
}

function decorated(fragment) {
  for (const link of fragment.querySelectorAll("a")) decorateLink(link);
  for (const code of fragment.querySelectorAll("pre > code")) decorateCode(code);
  for (const table of fragment.querySelectorAll("table")) {
    const frame = element("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}

function decorateLink(link) {
  if (!link.hasAttribute("href")) return link.replaceWith(...link.childNodes);
  link.setAttribute("rel", "noopener noreferrer");
  link.setAttribute("target", "_blank");
  return undefined;
}

function decorateCode(code) {
  const text = code.textContent;
  const language = code.className.replace(/^language-/, "");
  code.className = "";
  const block = code.parentElement;
  const frame = element("div", { class: "code" });
  const head = element("div", { class: "code-head" }, element("span", {}, language || "text"), copyButton("Copy code", () => text));
  block.replaceWith(frame);
  block.setAttribute("tabindex", "0"); // it scrolls, so the keyboard must reach it
  block.setAttribute("aria-label", language ? `Code in ${language}` : "Code");
  block.setAttribute("role", "region");
  frame.append(head, block);
  if (text.length <= MAX_HIGHLIGHT && highlighter.getLanguage(language)) {
    code.replaceChildren(safe(highlighter.highlight(text, { language, ignoreIllegals: true }).value));
  }
}
