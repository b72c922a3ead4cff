// Loaded before anything is drawn, and as a plain script: light or dark as chosen for this browser, else as the system says.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const { dataset } = document.documentElement;
    dataset.bsTheme = ["light", "dark"].includes(dataset.theme) ? dataset.theme : dark.matches ? "dark" : "light";
  };
  apply();
  dark.addEventListener("change", apply);
})();
