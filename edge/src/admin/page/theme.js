// The colours: as the system has them, light, or dark.

const CHOICES = ["system", "light", "dark"];
const NAMES = { system: "as the system", light: "light", dark: "dark" };
const KEY = "theme";

function chosen() {
  try {
    const stored = localStorage.getItem(KEY);
    return CHOICES.includes(stored) ? stored : "system";
  } catch {
    return "system";
  }
}

function apply(choice) {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  const button = document.getElementById("theme");
  if (!button) return;
  button.setAttribute("aria-label", `Colours: ${NAMES[choice]}`);
  button.title = button.getAttribute("aria-label");
}

apply(chosen());

document.getElementById("theme")?.addEventListener("click", () => {
  const next = CHOICES[(CHOICES.indexOf(chosen()) + 1) % CHOICES.length];
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // It holds until the page is left.
  }
  apply(next);
});
