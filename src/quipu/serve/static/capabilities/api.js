/** The server, as this page uses it. What goes wrong is an ApiError with a remedy that fits a form. */

import { ApiError, call, streamed } from "../chat/api.js";

export { models } from "../chat/api.js";

/** [{id, title, description, text_field, input, output, …}] */
export async function capabilities() {
  return (await (await call("v1/capabilities")).json()).data;
}

/** Call a capability; gives the events of the stream. */
export async function* run(id, body, signal) {
  try {
    yield* streamed(`v1/capabilities/${encodeURIComponent(id)}`, { ...body, stream: true }, signal);
  } catch (error) {
    throw remedied(error);
  }
}

/** {text, characters, pages, title, notes} of a file. */
export async function read(file, signal) {
  try {
    return await (await call(`v1/documents?name=${encodeURIComponent(file.name.slice(-200))}`, file, signal)).json();
  } catch (error) {
    throw remedied(error);
  }
}

const REMEDIES = {
  unparsed_answer: "Run it again with another seed or temperature, or choose another model. What the model wrote is below.",
  context_length_exceeded: "Shorten the text, or choose a model with a longer context.",
  unreadable_document: "Or paste its text.",
  request_too_large: "Choose a smaller file, or paste a part of its text.",
  capability_failed: "This is a fault in the file of the capability, not in what you entered.",
};

function remedied(error) {
  if (!(error instanceof ApiError)) return error;
  if (error.code in REMEDIES) error.remedy = REMEDIES[error.code];
  else if (error.status === 400) error.remedy = "Change it, then run it again.";
  return error;
}
