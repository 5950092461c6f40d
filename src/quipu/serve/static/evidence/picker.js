/** The two that are to be compared: from lists to an address. */

import { byId } from "../chat/element.js";

export function setUpPicker() {
  const picker = byId("picker");
  if (!picker) return;
  picker.hidden = false;
  const [first, second] = picker.querySelectorAll("select");
  const button = picker.querySelector("button");
  const check = () => { button.disabled = first.value === second.value; };
  for (const each of [first, second]) each.addEventListener("change", check);
  button.addEventListener("click", () => {
    location.href = `${picker.dataset.root}compare/${encodeURIComponent(first.value)}-vs-${encodeURIComponent(second.value)}`;
  });
  check();
}
