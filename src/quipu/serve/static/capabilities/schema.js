/** The parts of JSON schema that typed inputs and outputs are made of. */

/**
 * `schema` without its references and without null: {type, …, nullable}. `root` has the definitions. What may be text
 * or something else is text.
 */
export function resolved(schema, root) {
  if (schema.$ref) {
    const { $ref, ...rest } = schema;
    return resolved({ ...root.$defs[$ref.split("/").at(-1)], ...rest }, root);
  }
  const choices = schema.anyOf;
  if (!choices) return schema;
  const others = choices.filter((choice) => choice.type !== "null");
  const { anyOf, ...rest } = schema;
  const nullable = others.length < choices.length;
  const text = others.find((choice) => choice.type === "string");
  if (others.length !== 1 && !text) return schema;
  return { ...resolved(text ?? others[0], root), ...rest, nullable };
}

/** What a field is called on the page: "first_token_p50" is "First token p50". */
export function labelOf(name) {
  return capital(name.replaceAll("_", " ").trim());
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** `text` with a capital and a full stop. */
export function sentence(text) {
  return /[.!?]$/.test(text) ? capital(text) : `${capital(text)}.`;
}
