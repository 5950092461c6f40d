/** The state of the page, and everything that can be done with a conversation. */

import { Reader, announce } from "./announcer.js";
import { answer } from "./answering.js";
import { models, score } from "./api.js";
import { argumentsOf, inOneLine } from "./calls.js";
import { add, choose, messagesFor, newConversation, newId, refused, removeLeaf, shown, upTo } from "./conversation.js";
import { ask, toast } from "./dialog.js";
import { recall, remember } from "./store.js";
import { download, fileName, fromFile, toJson, toMarkdown } from "./transfer.js";

const SAVE_EVERY = 2000; // milliseconds, while an answer grows

export class Chat {
  /** `draw(change)` shows what changed: a message, or everything if it is undefined. */
  constructor(store, draw) {
    this.store = store;
    this.draw = draw;
    this.models = [];
    this.conversations = [];
    this.running = new Map(); // conversation id -> AbortController
    this.current = newConversation();
  }

  // ---- conversations

  /** Read them from the store. An answer that was being written when the page closed was stopped by that. */
  async load() {
    const kept = (await this.store.all()).filter((each) => !this.running.has(each.id));
    for (const conversation of kept) {
      conversation.tools ??= []; // kept by an older page
      for (const node of Object.values(conversation.nodes)) if (node.status === "streaming") node.status = "stopped";
    }
    const running = this.conversations.filter((each) => this.running.has(each.id));
    this.conversations = [...kept, ...running];
    const same = this.conversations.find((each) => each.id === this.current.id);
    if (same) this.current = same;
    else if (this.current.root) this.start(); // another tab deleted it
  }

  /** A new conversation, with the model and settings used last. It is kept once something was said. */
  start() {
    this.current = newConversation(recall("last", {}));
    this.current.model = this._known(this.current.model);
  }

  open(conversation) {
    this.current = conversation;
  }

  async rename(conversation) {
    const title = await ask({ title: "Rename conversation", field: { label: "Title", value: conversation.title }, confirm: "Rename" });
    if (!title) return;
    conversation.title = title.slice(0, 200);
    await this._save(conversation);
    this.draw();
  }

  async remove(conversation) {
    const sure = await ask({
      title: "Delete this conversation?", confirm: "Delete", danger: true,
      text: `“${conversation.title}” will be gone from this browser. This cannot be undone.`,
    });
    if (!sure) return;
    this.running.get(conversation.id)?.abort();
    this.conversations = this.conversations.filter((each) => each !== conversation);
    await this.store.remove(conversation.id);
    if (this.current === conversation) this.start();
    this.draw();
  }

  /** What the settings panel says. */
  set(settings) {
    Object.assign(this.current, settings);
    this._rememberSettings();
    if (this.current.root) this._save(this.current);
  }

  // ---- messages

  get busy() {
    return this.running.has(this.current.id);
  }

  /** Say `text` and show `images` ([{name, url}]) after what is shown, and answer it. */
  async send(text, images = []) {
    const last = shown(this.current).at(-1);
    if (!this.current.root) this.conversations.push(this.current);
    const question = add(this.current, last?.id ?? null, said(text, images));
    await this._answer(this.current, question);
  }

  /** Say something else in the place of `node`, on a branch of its own. Its pictures stay. */
  async edit(node, text) {
    if (this.busy) return;
    const question = add(this.current, node.parent, said(text, node.images));
    await this._answer(this.current, question);
  }

  /** Go on with what the tools returned that the answer `node` calls. */
  async results(node, results) {
    if (this.busy) return;
    const content = results.map((each) => each.content).join("\n");
    await this._answer(this.current, add(this.current, node.id, { role: "tool", content, results }));
  }

  /** Another answer to the same question. One that failed before its first word is not kept. */
  async regenerate(node) {
    if (this.busy) return;
    const question = this.current.nodes[node.parent];
    if (refused(node) && !node.chosen) removeLeaf(this.current, node);
    await this._answer(this.current, question);
  }

  turn(sibling) {
    choose(this.current, sibling);
    this._save(this.current);
    this.draw();
  }

  stop() {
    this.running.get(this.current.id)?.abort();
  }

  /** The tokens of an answer with their probabilities. See `api.score`. */
  score(node) {
    const question = this.current.nodes[node.parent];
    if (upTo(this.current, question).some((each) => each.images)) {
      throw new Error("Answers to pictures are not scored: only texts can be.");
    }
    if (this.current.tools.length || node.calls) throw new Error("Answers with tools are not scored: only texts can be.");
    const messages = messagesFor(this.current, question);
    return score(this._known(node.model), messages, node.content);
  }

  async _answer(conversation, question) {
    const control = new AbortController();
    this.running.set(conversation.id, control);
    conversation.updated = Date.now();
    const model = this._known(conversation.model);
    const node = add(conversation, question.id, { role: "assistant", content: "", status: "streaming", model });
    const reader = new Reader();
    let saved = Date.now();
    this._save(conversation);
    this.draw();
    announce("Answering.");
    await answer(conversation, node, control.signal, () => {
      if (conversation === this.current) this.draw(node);
      reader.read(node.content, false);
      if (Date.now() - saved < SAVE_EVERY) return;
      saved = Date.now();
      this._save(conversation);
    });
    this.running.delete(conversation.id);
    reader.read(node.content, true);
    for (const call of node.calls ?? []) announce(`Calls ${inOneLine({ name: call.name, given: argumentsOf(call.arguments) })}.`);
    announce({ done: "Answer complete.", stopped: "Stopped.", failed: "" }[node.status]);
    if (this.conversations.includes(conversation)) await this._save(conversation);
    if (!this.contextLength) await this.findModels().catch(() => {}); // the answer's model is loaded only now
    this.draw();
  }

  // ---- the server

  /** Ask what is served. Throws ApiError. */
  async findModels() {
    this.models = await models();
    this.current.model = this._known(this.current.model);
  }

  choose(model) {
    this.current.model = model;
    this._rememberSettings();
    if (this.current.root) this._save(this.current);
  }

  /** The model of this conversation as the server describes it, if it does. */
  get model() {
    return this.models.find((each) => each.id === this.current.model);
  }

  /** Tokens that it can hold, if it is known. */
  get contextLength() {
    return this.model?.max_model_len;
  }

  // ---- files

  exportJson(conversation) {
    download(fileName(conversation.title, "json"), "application/json", toJson([conversation]));
  }

  exportMarkdown(conversation) {
    if (shown(conversation).some((node) => node.images)) toast("Markdown has no pictures: export as JSON to keep them.");
    if (shown(conversation).some((node) => node.calls)) toast("Markdown has calls as text: export as JSON to keep them.");
    download(fileName(conversation.title, "md"), "text/markdown", toMarkdown(conversation));
  }

  exportAll() {
    download(`quipu-${new Date().toISOString().slice(0, 10)}.json`, "application/json", toJson(this.conversations));
  }

  async import(files) {
    for (const file of files) {
      try {
        await this._keep(fromFile(file.name, await file.text()));
      } catch (error) {
        toast(error.message);
      }
    }
    this.draw();
  }

  /** What is here already, unchanged, is not doubled; what differs is kept beside it. */
  async _keep(conversations) {
    let added = 0;
    for (const conversation of conversations) {
      const same = this.conversations.find((each) => each.id === conversation.id);
      if (same?.updated === conversation.updated) continue;
      if (same) conversation.id = newId();
      this.conversations.push(conversation);
      await this._save(conversation);
      added += 1;
    }
    const skipped = conversations.length - added;
    const here = skipped ? ` ${skipped} ${skipped === 1 ? "was" : "were"} here already.` : "";
    toast(`${added} ${added === 1 ? "conversation" : "conversations"} imported.${here}`);
  }

  // ---- the rest

  async _save(conversation) {
    try {
      await this.store.save(conversation);
    } catch (error) {
      toast(`This conversation could not be saved in the browser (${error.name}). Export it to keep it.`);
    }
  }

  _rememberSettings() {
    const { model, system, sampling, tools } = this.current;
    remember("last", { model, system, sampling, tools });
  }

  _known(model) {
    return this.models.some((each) => each.id === model) ? model : (this.models[0]?.id ?? model);
  }
}

function said(text, images = []) {
  return { role: "user", content: text, ...(images.length && { images }) };
}
