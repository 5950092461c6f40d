/** Conversations as files: JSON has everything; Markdown has the texts of the branch that is shown, to be read by people. */

import { textOf } from "./calls.js";
import { add, checked, newConversation, shown } from "./conversation.js";
import { element } from "./element.js";

const FORMAT = "quipu conversations";
const MARK = /^<!-- quipu:(system|user|assistant) -->$/;
const HEADINGS = { system: "System prompt", user: "You", assistant: "Answer" };

export function toJson(conversations) {
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1);
}

/** Comments, which no reader of Markdown sees, say where a message begins; a line that looks like one gets a backslash. */
export function toMarkdown(conversation) {
  const system = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  const parts = [...system, ...shown(conversation)].map(said).filter((node) => node.content || node.images).map(({ role, content }) =>
    `<!-- quipu:${role} -->\n## ${HEADINGS[role]}\n\n${content.replace(/^(\\*<!-- quipu:)/gm, "\\$1")}\n`);
  return `# ${conversation.title || "Conversation"}\n\n${parts.join("\n")}`;
}

/** A message as text: calls as models write them, and what tools returned as said by the person. */
function said(node) {
  if (node.role !== "tool") return { ...node, content: textOf(node) };
  return { role: "user", content: node.results.map(({ name, content }) => `${name} returned: ${content}`).join("\n") };
}

/** The conversations of a file. Throws an Error that names the file and says what is wrong. */
export function fromFile(name, text) {
  try {
    return /^\s*[{[]/.test(text) ? fromJson(text) : [fromMarkdown(text)];
  } catch (error) {
    throw new Error(`${name} was not imported: ${error.message}.`);
  }
}

function fromJson(text) {
  let given;
  try {
    given = JSON.parse(text);
  } catch {
    throw new Error("it is not JSON");
  }
  if (given?.format !== FORMAT || !Array.isArray(given.conversations)) throw new Error("it is not an export of this page");
  if (given.version !== 1) throw new Error("a newer version of this page wrote it");
  return given.conversations.map(checked);
}

function fromMarkdown(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const starts = lines.flatMap((line, place) => (MARK.test(line) ? [place] : []));
  if (!starts.length) throw new Error("it has no messages that this page has marked");
  const made = newConversation();
  let last = null;
  starts.forEach((start, number) => {
    const [, role] = MARK.exec(lines[start]);
    const body = lines.slice(start + 3, starts[number + 1] ?? lines.length).join("\n");
    const content = body.replace(/\n$/, "").replace(/^\\(\\*<!-- quipu:)/gm, "$1");
    if (role === "system") made.system = content;
    else last = add(made, last?.id ?? null, { role, content, ...(role === "assistant" && { status: "done", model: "" }) });
  });
  if (last === null) throw new Error("it has a system prompt and no messages");
  made.title = /^# (.*)$/.exec(lines[0])?.[1].slice(0, 200) ?? made.title;
  return made;
}

/** Let the browser save `text`. */
export function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A file name from a title. */
export function fileName(title, ending) {
  const plain = title.normalize("NFKD").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60);
  return `${plain || "conversation"}.${ending}`;
}
