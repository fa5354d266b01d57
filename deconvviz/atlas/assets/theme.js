/* Before the page is drawn: the theme that the reader chose, if any. Later: the button that chooses it. */
(() => {
  const root = document.documentElement;
  const names = { auto: "as the system", light: "light", dark: "dark" };
  const show = (name) => {
    if (name === "light" || name === "dark") root.dataset.theme = name;
    else delete root.dataset.theme;
  };
  try {
    show(localStorage.getItem("deconvviz.theme"));
  } catch { /* nothing is kept here */ }

  globalThis.themeButton = (button) => {
    const order = Object.keys(names);
    const say = (name) => {
      button.dataset.is = name;
      button.setAttribute("aria-label", "Colour theme: " + names[name]);
    };
    say(root.dataset.theme ?? "auto");
    button.addEventListener("click", () => {
      const next = order[(order.indexOf(button.dataset.is) + 1) % order.length];
      try {
        localStorage.setItem("deconvviz.theme", next);
      } catch { /* for this page only */ }
      show(next);
      say(next);
    });
  };
})();
