/** The icons, as strokes on a grid of 24. */

const PATHS = {
  archive: "M4 8h16v11H4zM3 4h18v4H3zM10 12h4",
  book: "M5 4h12a2 2 0 0 1 2 2v14H7a2 2 0 0 1-2-2zM5 18a2 2 0 0 1 2-2h12",
  chat: "M4 5h16v11H9.500L5 19.500V16H4z",
  check: "M5 13l4 4L19 7",
  close: "M6 6l12 12M18 6L6 18",
  compose: "M12 5H6a2 2 0 0 0-2 2v11a2 2 0 0 0 2 2h11a2 2 0 0 0 2-2v-6M18.500 3.500a2 2 0 0 1 2.800 2.800L13 14.600l-3.800 1 1-3.800z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  dark: "M20 14.500A8.500 8.500 0 0 1 9.500 4 8.500 8.500 0 1 0 20 14.500z",
  down: "M12 5v14M6 13l6 6 6-6",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  edit: "M4 20l1-4L16.500 4.500a2.100 2.100 0 0 1 3 3L8 19zM14.500 6.500l3 3",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  grid: "M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h6v6h-6z",
  keyboard: "M3 6h18v12H3zM7 10h.01M11 10h.01M15 10h.01M7 14h10",
  left: "M14 6l-6 6 6 6",
  light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M4.900 4.900l1.400 1.400M17.700 17.700l1.400 1.400M2 12h2M20 12h2M4.900 19.100l1.400-1.400M17.700 6.300l1.400-1.400",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  panel: "M4 5h16v14H4zM9.500 5v14",
  picture: "M4 5h16v14H4zM4 16.500l5-5 4.500 4.500 2.500-2.500 4 4M15.500 9h.01",
  plus: "M12 5v14M5 12h14",
  probability: "M4 20V10M9.300 20V4M14.600 20v-7M20 20v-4",
  regenerate: "M20 11a8 8 0 1 0-2.300 6.300M20 5v6h-6",
  right: "M10 6l6 6-6 6",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4.500 4.500",
  send: "M12 20V5M5.500 11.500L12 5l6.500 6.500",
  sliders: "M4 7h9M17 7h3M15 5a2 2 0 1 0 0 4 2 2 0 0 0 0-4zM4 17h3M11 17h9M9 15a2 2 0 1 0 0 4 2 2 0 0 0 0-4z",
  stop: "M7 7h10v10H7z",
  system: "M3 5h18v11H3zM9 20h6M12 16v4",
  tool: "M14.500 6.500a4 4 0 0 0-5.300 5L3.500 17.200l3.300 3.300 5.700-5.700a4 4 0 0 0 5-5.300l-2.600 2.600-2.500-.500-.500-2.500z",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  upload: "M12 16V5M7 9l5-5 5 5M4 20h16",
};

/** The icon called `name`, hidden from screen readers: what it stands in says what it does. */
export function icon(name) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  drawing.setAttribute("class", `icon icon-${name}`);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  drawing.append(path);
  return drawing;
}

/** Draw the icons that the page's HTML asks for with `data-icon`. */
export function drawIcons() {
  for (const place of document.querySelectorAll("[data-icon]")) place.prepend(icon(place.dataset.icon));
}
