// Loaded before anything is drawn, and as a plain script: light or dark as chosen here before, else as the system says.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  };
  const apply = () => {
    const theme = chosen() || (dark.matches ? "dark" : "light");
    document.documentElement.dataset.bsTheme = theme === "dark" ? "dark" : "light";
  };
  apply();
  dark.addEventListener("change", apply);
})();
