/** Puts the page together. */

import { number } from "./answering.js";
import { Drawer, setUpSettingsPanel, setUpTheme } from "./appearance.js";
import { Chat } from "./chat.js";
import { shown } from "./conversation.js";
import { showShortcuts, toast } from "./dialog.js";
import { byId, element, grow } from "./element.js";
import { drawIcons, icon } from "./icons.js";
import { openMenu } from "./menu.js";
import { Pictures } from "./pictures.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Store } from "./store.js";
import { Thread } from "./thread.js";

const SHORTCUTS = [
  ["Send", "Enter"], ["New line", "Shift", "Enter"], ["Stop the answer", "Esc"], ["Search conversations", "Ctrl", "K"],
  ["New chat", "Ctrl", "Shift", "O"], ["Settings", "Ctrl", ","], ["Edit your last message", "↑"],
];

const question = byId("question");
const touch = matchMedia("(pointer: coarse)"); // there, Enter is the only way to a new line, and focus shows a keyboard
const store = await Store.open(async () => {
  await chat.load();
  if (!chat.busy) draw();
});
const chat = new Chat(store, draw);
const pictures = new Pictures(drawSend);
const drawer = new Drawer();
const settings = new Settings((changed) => chat.set(changed));
const thread = new Thread({
  edit: (node, text) => said(chat.edit(node, text)),
  regenerate: (node) => said(chat.regenerate(node)),
  results: (node, results) => said(chat.results(node, results)),
  reword: (node) => thread.edit(chat.current.nodes[node.parent]),
  turn: (node, sibling) => {
    chat.turn(sibling);
    thread.focus(sibling, ".branches button:enabled");
  },
  score: (node) => chat.score(node),
  start: (text) => {
    question.value = text;
    typed();
    question.focus();
  },
});
const sidebar = new Sidebar({
  open: (conversation) => show(conversation),
  rename: (conversation) => chat.rename(conversation),
  remove: (conversation) => chat.remove(conversation),
  exportJson: (conversation) => chat.exportJson(conversation),
  exportMarkdown: (conversation) => chat.exportMarkdown(conversation),
});

let settled = null;

/** Show `node`, which grew, or everything. */
function draw(node) {
  if (node) {
    thread.update(node);
    return;
  }
  const { current } = chat;
  sidebar.show(chat.conversations, current.id, chat.running);
  thread.show(current);
  if (settled !== current) settings.show(current); // else what is being typed there would jump
  settled = current;
  byId("title").textContent = current.title || "New chat";
  document.title = current.title ? `${current.title} · quipu` : "quipu";
  history.replaceState(null, "", current.root ? `#${current.id}` : location.pathname + location.search);
  drawModels();
  drawContext();
  pictures.show(chat.model);
  drawSend();
}

function drawModels() {
  byId("model").replaceChildren(...chat.models.map(({ id }) => element("option", { value: id, selected: id === chat.current.model }, id)));
  byId("model").disabled = chat.models.length === 0;
}

function drawContext() {
  const usage = shown(chat.current).findLast((node) => node.usage)?.usage;
  const { contextLength } = chat;
  const place = byId("context");
  place.hidden = !usage || !contextLength;
  if (place.hidden) return;
  const used = usage.prompt + usage.completion;
  place.classList.toggle("nearly-full", used > 0.85 * contextLength);
  place.title = "How much of what the model can hold this conversation takes";
  place.replaceChildren(
    element("progress", { max: contextLength, value: used, "aria-label": "Context used" }),
    element("span", {}, `${number(used)} of ${number(contextLength)} tokens`));
}

function drawSend() {
  const { busy } = chat;
  document.body.dataset.busy = busy;
  const button = byId("send");
  button.replaceChildren(icon(busy ? "stop" : "send"));
  button.setAttribute("aria-label", busy ? "Stop" : "Send");
  button.title = busy ? "Stop (Esc)" : "Send (Enter)";
  button.classList.toggle("stopping", busy);
  button.disabled = !busy && !sendable();
}

function sendable() {
  return !pictures.reading && (question.value.trim() !== "" || pictures.count > 0);
}

function typed() {
  grow(question);
  drawSend();
}

/** After something was sent: to the end, and ready for the next. */
function said(work) {
  thread.toEnd();
  ready();
  return work;
}

function send() {
  if (chat.busy || !sendable()) return;
  const text = question.value.trim();
  question.value = "";
  said(chat.send(text, pictures.take()));
  typed();
}

function show(conversation) {
  if (conversation) chat.open(conversation);
  else chat.start();
  drawer.chosen();
  draw();
  thread.toEnd();
  ready();
}

function ready() {
  if (!touch.matches) question.focus();
}

function editLast() {
  const last = shown(chat.current).findLast((node) => node.role === "user");
  if (last && !chat.busy) thread.edit(last);
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (chat.busy) chat.stop();
  else send();
});
question.addEventListener("input", typed);
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !touch.matches) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && question.value === "") {
    event.preventDefault();
    editLast();
  }
});
byId("model").addEventListener("change", (event) => {
  chat.choose(event.target.value);
  drawContext();
  pictures.show(chat.model);
});
for (const id of ["new-chat", "new-chat-here"]) byId(id).addEventListener("click", () => show(null));
byId("shortcuts").addEventListener("click", () => showShortcuts(SHORTCUTS));
byId("more").addEventListener("click", (event) => openMenu(event.currentTarget, [
  { label: "Import…", icon: "upload", action: () => byId("file").click() },
  { label: "Export all as JSON", icon: "download", action: () => chat.exportAll() },
]));
byId("file").addEventListener("change", async (event) => {
  await chat.import([...event.target.files]);
  event.target.value = "";
});
document.addEventListener("keydown", (event) => {
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (event.key === "Escape" && !document.querySelector("dialog[open], .menu")) {
    if (drawer.covering) drawer.close(byId("open-sidebar"));
    else chat.stop();
  } else if (command && key === "k") {
    drawer.open(byId("search"));
    byId("search").select();
  } else if (command && event.shiftKey && key === "o") show(null);
  else if (command && key === ",") byId("open-settings").click();
  else return;
  event.preventDefault();
});
window.addEventListener("hashchange", () => {
  const named = chat.conversations.find((each) => `#${each.id}` === location.hash);
  if (named && named !== chat.current) show(named);
});

drawIcons();
setUpTheme();
setUpSettingsPanel();
await chat.load();
const named = chat.conversations.find((each) => `#${each.id}` === location.hash);
if (named) chat.open(named);
else chat.start();
draw();
ready();
if (!store.durable) toast("This browser does not keep data for this page: conversations last until it is closed.");
try {
  await chat.findModels();
} catch (error) {
  toast(`${error.message} ${error.remedy}`);
}
draw();
thread.toEnd();
document.documentElement.dataset.ready = "true";
