// Light, dark, or as the system has it; remembered in this browser where it allows that.

const KEY = "ride-theme";
const THEMES = ["system", "light", "dark"];

/** Let a button go round the themes. */
export function offerThemes(button) {
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    button.dataset.theme = theme;
  };
  button.addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(button.dataset.theme) + 1) % THEMES.length];
    show(theme);
    remember(theme);
  });
  show(remembered());
}

function remembered() {
  try {
    const theme = localStorage.getItem(KEY);
    return THEMES.includes(theme) ? theme : THEMES[0];
  } catch {
    return THEMES[0];
  }
}

function remember(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Storage is switched off; the choice holds until the page is left.
  }
}
