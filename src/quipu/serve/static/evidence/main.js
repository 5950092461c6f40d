/** What every page of evidence has: the theme, buttons that copy, and what its own parts need. */

import { setUpTheme } from "../chat/appearance.js";
import { byId, iconButton } from "../chat/element.js";
import { icon } from "../chat/icons.js";
import { setUpPicker } from "./picker.js";
import { setUpRanking } from "./ranking.js";

const SHOWN_MILLISECONDS = 1600;

/** Put a button beside each command that copies it. */
function setUpCommands() {
  if (!navigator.clipboard) return; // only where the browser trusts the page's origin
  for (const place of document.querySelectorAll(".command")) {
    const button = iconButton("copy", "Copy the command", async () => {
      await navigator.clipboard.writeText(place.querySelector("code").textContent);
      byId("announcer").textContent = "Copied";
      button.replaceChildren(icon("check"));
      setTimeout(() => button.replaceChildren(icon("copy")), SHOWN_MILLISECONDS);
    });
    place.append(button);
  }
}

/** What an address names inside of a closed part is shown. */
function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
  target.scrollIntoView();
}

/** On a phone the bar scrolls: what is current is in sight. */
function showCurrent() {
  const current = document.querySelector(".top nav [aria-current]");
  if (current) current.parentElement.scrollLeft = current.offsetLeft - current.parentElement.offsetLeft - 40;
}

setUpTheme();
showCurrent();
setUpCommands();
setUpPicker();
setUpRanking();
openTarget();
addEventListener("hashchange", openTarget);
document.documentElement.dataset.ready = "true";
