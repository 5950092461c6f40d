/** One answer, from the request to its last token, written into a message of a conversation as it comes. */

import { chat } from "./api.js";
import { argumentsOf } from "./calls.js";
import { messagesFor } from "./conversation.js";

/**
 * Fill `node` with the answer to its parent. `onchange` is called after each piece. Never throws: how it ended is in
 * `node.status`, and in `node.error` what went wrong.
 */
export async function answer(conversation, node, signal, onchange) {
  const question = conversation.nodes[node.parent];
  const body = { model: node.model, messages: messagesFor(conversation, question), ...conversation.sampling };
  if (conversation.tools.length) body.tools = conversation.tools;
  const clock = new Clock();
  try {
    for await (const event of chat(body, signal)) {
      take(node, event, clock);
      onchange();
    }
    node.status = "done";
  } catch (error) {
    fail(node, error);
    if (node.calls) node.calls = node.calls.filter((call) => argumentsOf(call.arguments)); // the last may be half
  }
  onchange();
}

function take(node, event, clock) {
  const choice = event.choices?.[0];
  if (choice?.delta?.content) {
    node.content += choice.delta.content;
    node.timing = clock.tick();
  }
  for (const { index, id, function: piece } of choice?.delta?.tool_calls ?? []) {
    node.calls ??= [];
    node.calls[index] ??= { id, name: piece.name, arguments: "" };
    node.calls[index].arguments += piece.arguments ?? "";
    node.timing = clock.tick();
  }
  if (choice?.finish_reason) node.finish = choice.finish_reason;
  if (event.usage) {
    const { prompt_tokens, completion_tokens, prompt_tokens_details } = event.usage;
    node.usage = { prompt: prompt_tokens, completion: completion_tokens, cached: prompt_tokens_details?.cached_tokens ?? 0 };
  }
}

function fail(node, error) {
  if (error.name === "AbortError") {
    node.status = "stopped";
    return;
  }
  const { message, remedy = "", code = null, status = 0 } = error;
  Object.assign(node, { status: "failed", error: { message, remedy, code, status } });
}

/** Milliseconds to the first piece and between first and last; pieces are about as many as tokens. */
class Clock {
  constructor() {
    this._start = performance.now();
    this._pieces = 0;
  }

  tick() {
    const now = performance.now();
    this._first ??= now;
    this._pieces += 1;
    return { first: this._first - this._start, rest: now - this._first, pieces: this._pieces };
  }
}

/** What an answer took, and if `named` by which model it is, in words: [short text, explanation] pairs. */
export function figures(node, named) {
  const { model, usage, timing, finish, status } = node;
  const found = [];
  if (named && model) found.push([model, "The model that answered"]);
  const tokens = usage?.completion ?? timing?.pieces;
  if (tokens) found.push([`${usage ? "" : "≈ "}${number(tokens)} ${tokens === 1 ? "token" : "tokens"}`, "Length of the answer"]);
  if (timing && tokens > 1 && timing.rest > 0) {
    found.push([`${((tokens - 1) / (timing.rest / 1000)).toFixed(1)} tokens/s`, "Speed after the first token"]);
  }
  if (timing) found.push([`${(timing.first / 1000).toFixed(1)} s to the first`, "From sending to the first token"]);
  if (usage) {
    const cached = usage.cached ? `, ${number(usage.cached)} cached` : "";
    found.push([`${number(usage.prompt)} in the prompt${cached}`, "Tokens of the conversation that were read; cached ones were known from before and cost no time"]);
  }
  if (status === "stopped") found.push(["stopped", "You stopped this answer"]);
  if (finish === "length") found.push(["cut at the maximum length", "The maximum length or the end of the context was reached"]);
  return found;
}

export function number(value) {
  return value.toLocaleString("en");
}
