/** The server, as the page uses it. Whatever goes wrong is an ApiError: a sentence, and what to do about it. */

import { events } from "./events.js";
import { contentOf } from "./photo.js";

export class ApiError extends Error {
  /** `param` is the field at fault, `text` the answer of a model that could not be read. */
  constructor(message, { status = 0, code = null, param = null, text = null, remedy = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, param, text, remedy });
  }
}

/** [{id, max_model_len, input_modalities}], the last two null until the model is loaded. */
export async function models() {
  return (await (await call("v1/models")).json()).data;
}

/** Ask for an answer; gives the parsed events of the stream. */
export async function* chat(body, signal) {
  yield* streamed("v1/chat/completions", { ...body, stream: true, stream_options: { include_usage: true } }, signal);
}

/** The parsed events of the stream that answers `body`. */
export async function* streamed(path, body, signal) {
  const response = await call(path, body, signal);
  try {
    for await (const event of events(response.body)) {
      if (event.error) throw fromServer(response.status, event.error, null);
      yield event;
    }
  } catch (error) {
    throw error instanceof ApiError || error.name === "AbortError" ? error : broken(error);
  }
}

/**
 * The tokens of `answer` as the model would have said them after `messages`:
 * [{text, logprob, top: [{text, logprob}]}], best alternatives first. Nothing is generated: the answer is scored.
 */
export async function score(model, messages, answer, signal) {
  const prompt = await tokenize({ model, messages }, signal);
  const said = await tokenize({ model, prompt: answer, add_special_tokens: false }, signal);
  const body = { model, prompt: [...prompt, ...said], echo: true, max_tokens: 0, logprobs: 5 };
  const { logprobs } = (await (await call("v1/completions", body, signal)).json()).choices[0];
  return logprobs.tokens.slice(prompt.length).map((text, place) => ({
    text,
    logprob: logprobs.token_logprobs[prompt.length + place],
    top: Object.entries(logprobs.top_logprobs[prompt.length + place] ?? {}).map(([other, logprob]) => ({ text: other, logprob })),
  }));
}

/** How many tokens `photo` adds to a question. Throws ApiError, also if the server sees no picture in it. */
export async function pictureTokens(model, photo) {
  const asked = (photos) => tokenize({ model, messages: [{ role: "user", content: contentOf("?", photos) }] });
  const [shown, plain] = await Promise.all([asked([photo]), asked([])]);
  return shown.length - plain.length;
}

async function tokenize(body, signal) {
  return (await (await call("tokenize", body, signal)).json()).tokens;
}

/**
 * The response, if it is no refusal. A `body` that is a Blob is sent as it is, any other as JSON. Where the server wants
 * a key, the browser asked for it before it showed this page, and sends it along.
 */
export async function call(path, body, signal) {
  const raw = body instanceof Blob;
  const headers = body ? { "Content-Type": raw ? body.type || "application/octet-stream" : "application/json" } : {};
  const address = location.origin + location.pathname; // without the key, should it stand there: fetch would refuse it
  let response;
  try {
    response = await fetch(new URL(path, address), { method: body ? "POST" : "GET", headers, body: raw ? body : body && JSON.stringify(body), signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
  if (!response.ok) throw await refused(response);
  return response;
}

async function refused(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // Not an answer of quipu: a proxy's page, perhaps.
  }
  return fromServer(response.status, error, response.headers.get("retry-after"));
}

function fromServer(status, { message, code = null, param = null, text = null }, retryAfter) {
  const said = typeof message === "string" ? sentence(message) : `The server answered with status ${status}.`;
  return new ApiError(said, { status, code, param, text, remedy: remedy(status, code, retryAfter) });
}

function remedy(status, code, retryAfter) {
  if (code === "context_length_exceeded") return "Edit the message, or start a new chat.";
  if (code === "missing_chat_template") return "Choose another model.";
  if (code === "model_not_found") return "Choose another model at the top of the page.";
  if (code === "limit_exceeded") return "Whoever runs the server can raise this limit.";
  if (code === "request_too_large") return "Shorten the message, show fewer pictures, or start a new chat.";
  if (status === 401) return "Try again, and enter the key as the password when the browser asks; any user name will do.";
  if (status === 429) return retryAfter ? `Try again in ${retryAfter} seconds.` : "Try again in a moment.";
  if (status === 503) return retryAfter ? `Try again in ${retryAfter} seconds.` : "Wait until the server has started again, then try again.";
  if (status === 400) return "Change what it names, in the message or in the settings, then try again.";
  if (status >= 500) return "The server’s log says more. Try again.";
  return "";
}

function unreachable() {
  return new ApiError("The server cannot be reached.", {
    code: "unreachable",
    remedy: "Check that quipu serve is running and that this machine is connected, then try again.",
  });
}

function broken(error) {
  return new ApiError("The connection ended before the answer did.", {
    code: "interrupted",
    remedy: error.message.includes("JSON") ? "What came was not an answer of quipu. Try again." : "Try again.",
  });
}

function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
