// A classic script, run before the page is drawn, so that a dark page never flashes white.
document.documentElement.dataset.theme = (() => {
  try {
    return JSON.parse(localStorage.getItem("quipu.theme")) ?? "system";
  } catch {
    return "system"; // storage is forbidden, or holds something else
  }
})();
