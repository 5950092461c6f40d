/** What may be set about how an answer is drawn. Empty means the model's own default, and is not sent. */

export const CONTROLS = [
  { name: "temperature", label: "Temperature", min: 0, max: 100, slider: [0, 2], step: 0.05,
    help: "How much chance has a say: 0 always takes the likeliest token, 2 is wild." },
  { name: "top_p", label: "Top P", min: 0, max: 1, slider: [0.01, 1], step: 0.01,
    help: "Draws only from the likeliest tokens that together reach this probability; 1 is all." },
  { name: "top_k", label: "Top K", min: -1, step: 1,
    help: "Draws only from this many of the likeliest tokens; 0 is all." },
  { name: "min_p", label: "Min P", min: 0, max: 1, slider: [0, 1], step: 0.01,
    help: "Leaves out tokens less likely than this share of the best one’s probability; 0 is off." },
  { name: "max_tokens", label: "Maximum length", min: 1, step: 1,
    help: "Ends the answer after this many tokens; empty is until the context is full." },
  { name: "seed", label: "Seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1,
    help: "The same number and the same conversation give the same answer again." },
  { name: "presence_penalty", label: "Presence penalty", min: -2, max: 2, slider: [-2, 2], step: 0.1,
    help: "Above 0, tokens that the answer has used already become less likely." },
  { name: "frequency_penalty", label: "Frequency penalty", min: -2, max: 2, slider: [-2, 2], step: 0.1,
    help: "Above 0, tokens become less likely each time that the answer uses them." },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0.01, max: 100, slider: [0.5, 2], step: 0.01,
    help: "Above 1, tokens of the question and the answer become less likely; 1 is off." },
  { name: "stop", label: "Stop texts", lines: true,
    help: "Ends the answer before one of these appears, one a line; \\n stands for a new line." },
];

/** The number that `text` says, or an Error that says what it should be. null if it is empty. */
export function numberOf(control, text) {
  if (text.trim() === "") return null;
  const value = Number(text);
  const whole = Number.isInteger(control.step);
  const { min = -Infinity, max = Infinity } = control;
  if (Number.isFinite(value) && value >= min && value <= max && (!whole || Number.isInteger(value))) return value;
  const kind = whole ? "a whole number" : "a number";
  throw new Error(max === Infinity ? `Enter ${kind} of at least ${min}.` : `Enter ${kind} from ${min} to ${max}.`);
}

/** Stop texts from what was typed, and back. */
export function stopsOf(text) {
  return text.split("\n").filter((line) => line !== "").map((line) => line.replaceAll("\\n", "\n"));
}

export function textOf(stops) {
  return stops.map((stop) => stop.replaceAll("\n", "\\n")).join("\n");
}
