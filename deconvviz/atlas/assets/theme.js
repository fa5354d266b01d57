/* Before the page is drawn: the theme that the reader chose, if any. */
try {
  const theme = localStorage.getItem("deconvviz.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* nothing is kept here */ }
