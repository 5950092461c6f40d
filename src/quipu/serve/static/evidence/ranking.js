/** Weights by sliders: the server ranks anew while they move, and the address says what is shown. */

import { byId } from "../chat/element.js";

const PAUSE_MILLISECONDS = 120;

export function setUpRanking() {
  const weights = byId("weights");
  if (!weights) return;
  const sliders = [...weights.querySelectorAll("input[type=range]")];
  let waiting;
  let latest = 0;

  const workload = () => {
    const chosen = sliders.filter(({ value }) => Number(value) > 0);
    const equal = chosen.length === sliders.length && chosen.every(({ value }) => value === chosen[0].value);
    return equal ? "" : chosen.map(({ name, value }) => `${name}=${value}`).join(",");
  };

  const show = () => {
    const total = sliders.reduce((sum, { value }) => sum + Number(value), 0);
    for (const each of sliders) {
      const share = total ? `${Math.round((100 * each.value) / total)} %` : "—";
      weights.querySelector(`output[for="${each.id}"]`).value = share;
      each.setAttribute("aria-valuetext", `weight ${each.value}, ${share} of the workload`);
    }
    return total;
  };

  const rank = async () => {
    const turn = ++latest;
    const asked = workload();
    const address = asked ? `rank?workload=${encodeURIComponent(asked)}` : "rank";
    const ranking = byId("ranking");
    ranking.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(address);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      if (turn !== latest) return; // a later one is on its way
      const fresh = page.getElementById("ranking") ?? page.querySelector("main > .panel");
      fresh.id = "ranking";
      ranking.replaceWith(document.adoptNode(fresh));
      history.replaceState(null, "", address);
      byId("announcer").textContent = fresh.querySelector(".lead")?.textContent ?? "";
    } catch {
      if (turn !== latest) return;
      ranking.removeAttribute("aria-busy");
      byId("announcer").textContent = "The server did not answer; the ranking is of the weights before.";
      byId("weights-fault").textContent = "The server did not answer; the ranking below is of the weights before.";
      return;
    }
    byId("weights-fault").textContent = "";
  };

  weights.addEventListener("input", () => {
    clearTimeout(waiting);
    if (show() === 0) {
      byId("weights-fault").textContent = "Give at least one capability some weight.";
      return;
    }
    waiting = setTimeout(rank, PAUSE_MILLISECONDS);
  });
  byId("equal").addEventListener("click", () => {
    for (const each of sliders) each.value = 1;
    show();
    rank();
  });
  show();
}
