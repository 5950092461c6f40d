/** Server-sent events as the OpenAI API sends them: one JSON object a `data:` line, `[DONE]` at the end. */

/** The objects of `stream` (bytes). Throws an Error if it ends before `[DONE]` or an error object. */
export async function* events(stream) {
  for await (const line of lines(stream)) {
    if (!line.startsWith("data:")) continue; // a comment keeps the connection alive
    const data = line.slice(5).trim();
    if (data === "[DONE]") return;
    yield JSON.parse(data);
  }
  throw new Error("the stream ended early");
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts;
    }
  } finally {
    reader.cancel().catch(() => {}); // already broken: whoever reads has heard why
  }
}
