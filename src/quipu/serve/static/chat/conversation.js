/**
 * A conversation is a tree of messages, because an edited question or a second answer does not replace the first.
 *
 * {id, title, created, updated, model, system, sampling, tools, root, nodes}: `nodes` maps ids to
 * {id, parent, role, content, chosen, created, ...}; `chosen` is the child that is shown, `root` the first message
 * that is. A question may have `images`, [{name, url}] with data URLs. An answer also has `model`, `status`
 * ("streaming", "done", "stopped", "failed"), `finish`, `usage`, `timing` and `error`, and if it calls tools `calls`,
 * [{id, name, arguments}] with the arguments in JSON; a message of role "tool" below it has `results`,
 * [{id, name, content}]. `tools` are definitions as the API takes them. Times are milliseconds since 1970.
 */

import { argumentsOf } from "./calls.js";
import { contentOf, isPicture } from "./photo.js";
import { CONTROLS } from "./sampling.js";

const ROLES = new Set(["user", "assistant", "tool"]);

/** A new name: 16 random hexadecimal digits. (`crypto.randomUUID` exists only on secure origins.) */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation({ model = "", system = "", sampling = {}, tools = [] } = {}) {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, model, system, sampling: { ...sampling }, tools: [...tools], root: null, nodes: {} };
}

/** Put a message below `parent` (an id, or null for the beginning) and show it. */
export function add(conversation, parent, message) {
  const node = { id: newId(), parent, chosen: null, created: Date.now(), ...message };
  conversation.nodes[node.id] = node;
  choose(conversation, node);
  if (!conversation.title && node.role === "user") conversation.title = titleOf(node.content || node.images?.[0].name || "");
  return node;
}

/** Show `node` among its siblings. */
export function choose(conversation, node) {
  if (node.parent === null) conversation.root = node.id;
  else conversation.nodes[node.parent].chosen = node.id;
}

/** Take out a message that nothing follows; one of its siblings is shown instead. */
export function removeLeaf(conversation, node) {
  delete conversation.nodes[node.id];
  const other = siblings(conversation, node).at(-1) ?? { id: null, parent: node.parent };
  choose(conversation, other);
}

/** The messages that are shown, first to last. */
export function shown(conversation) {
  const found = [];
  for (let id = conversation.root; id; id = conversation.nodes[id].chosen) found.push(conversation.nodes[id]);
  return found;
}

/** The messages from the first to `node`. */
export function upTo(conversation, node) {
  const found = [];
  for (let each = node; each; each = conversation.nodes[each.parent]) found.unshift(each);
  return found;
}

/** `node` and its alternatives, oldest first. */
export function siblings(conversation, node) {
  return Object.values(conversation.nodes).filter((each) => each.parent === node.parent);
}

/** The models that gave the answers. */
export function answeredBy(conversation) {
  return new Set(Object.values(conversation.nodes).map((node) => node.model).filter(Boolean));
}

/** Whether `node` is an answer that failed before its first word. */
export function refused(node) {
  return node.role === "assistant" && node.status === "failed" && !node.content && !node.calls?.length;
}

/** What the API is sent to get an answer to `node`. A question that was refused would be refused again: it is left out. */
export function messagesFor(conversation, node) {
  const way = upTo(conversation, node);
  const said = way.filter((each, place) => !refused(each) && !(way[place + 1] && refused(way[place + 1])));
  const messages = said.flatMap(messagesOf);
  return conversation.system.trim() ? [{ role: "system", content: conversation.system }, ...messages] : messages;
}

function messagesOf({ role, content, images, calls, results }) {
  if (results) return results.map((each) => ({ role, tool_call_id: each.id, content: each.content }));
  const called = (calls ?? []).map(({ id, name, arguments: json }) => ({ id, type: "function", function: { name, arguments: json } }));
  return [{ role, content: contentOf(content, images), ...(called.length && { tool_calls: called }) }];
}

export function titleOf(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}

/** Whether every word of `query` is somewhere in the conversation. */
export function matches(conversation, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const texts = [conversation.title, ...Object.values(conversation.nodes).map((node) => node.content)];
  const whole = texts.join("\n").toLowerCase();
  return words.every((word) => whole.includes(word));
}

/**
 * A conversation with known fields of the right kinds only, from what a file said.
 * Throws an Error that says what is wrong with it.
 */
export function checked(given) {
  if (!isObject(given) || !isObject(given.nodes)) throw new Error("it has no messages");
  const made = newConversation({ model: text(given.model), system: text(given.system) });
  made.title = text(given.title);
  if (/^[\w-]{1,64}$/.test(given.id)) made.id = given.id;
  for (const time of ["created", "updated"]) if (Number.isFinite(given[time])) made[time] = given[time];
  for (const [name, value] of Object.entries(isObject(given.sampling) ? given.sampling : {})) {
    if (CONTROLS.some((control) => control.name === name) && isSetting(value)) made.sampling[name] = value;
  }
  if (Array.isArray(given.tools)) made.tools = given.tools;
  const names = new Map(Object.keys(given.nodes).map((id) => [id, newId()]));
  for (const [id, node] of Object.entries(given.nodes)) made.nodes[names.get(id)] = checkedNode(node, names);
  for (const [id, node] of Object.entries(made.nodes)) node.id = id;
  made.root = names.get(given.root) ?? null;
  mustBeTree(made);
  return made;
}

function checkedNode(node, names) {
  if (!isObject(node) || !ROLES.has(node.role) || typeof node.content !== "string" || (node.role === "tool") !== Array.isArray(node.results)) {
    throw new Error("a message has no role (user or assistant) or no content");
  }
  const { role, content } = node;
  const known = { role, content, parent: names.get(node.parent) ?? null, chosen: names.get(node.chosen) ?? null };
  known.created = Number.isFinite(node.created) ? node.created : Date.now();
  if (role === "user" && Array.isArray(node.images) && node.images.length) known.images = node.images.map(checkedImage);
  if (role === "tool") known.results = node.results.map((each) => named(each, "content"));
  if (role === "assistant") {
    if (Array.isArray(node.calls) && node.calls.length) known.calls = node.calls.map(checkedCall);
    known.status = node.status === "stopped" ? "stopped" : "done";
    known.model = text(node.model);
    known.finish = text(node.finish);
    known.usage = isObject(node.usage) ? numbers(node.usage) : null;
    known.timing = isObject(node.timing) ? numbers(node.timing) : null;
  }
  return known;
}

function checkedCall(call) {
  const known = named(call, "arguments");
  if (!argumentsOf(known.arguments)) throw new Error("a call has arguments that are no JSON object");
  return known;
}

/** {id, name} and the `field`, all texts. */
function named(given, field) {
  const known = ["id", "name", field].map((name) => [name, isObject(given) ? given[name] : undefined]);
  if (known.some(([, value]) => typeof value !== "string")) throw new Error("a call or its result has no id, name or content");
  return Object.fromEntries(known);
}

function checkedImage(image) {
  if (!isObject(image) || !isPicture(image.url)) throw new Error("a picture is no data URL of a kind that is shown");
  return { name: text(image.name).slice(0, 200), url: image.url };
}

/** Every message is reached from a beginning, and what is chosen is a child: else showing it would never end. */
function mustBeTree(conversation) {
  const { nodes } = conversation;
  for (const node of Object.values(nodes)) {
    const seen = new Set();
    for (let each = node; each; each = nodes[each.parent]) {
      if (seen.has(each.id)) throw new Error("its messages go in a circle");
      seen.add(each.id);
    }
    if (node.chosen && nodes[node.chosen].parent !== node.id) throw new Error("a message continues with a stranger");
  }
  if (!conversation.root || nodes[conversation.root].parent !== null) throw new Error("it has no first message");
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSetting(value) {
  return Number.isFinite(value) || (Array.isArray(value) && value.every((each) => typeof each === "string"));
}

function numbers(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => Number.isFinite(value)));
}

function text(value) {
  return typeof value === "string" ? value : "";
}
