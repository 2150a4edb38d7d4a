// Runs before the first picture, so that a chosen theme does not flash.
(() => {
  try {
    const theme = localStorage.getItem("exai-theme");
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  } catch {
    // A browser may forbid storage; the system's theme is used then.
  }
  document.documentElement.classList.add("scripted");
})();
