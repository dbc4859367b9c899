// The form that asks for the token. The answer sets a cookie that no script can read.

const form = document.getElementById("login");
const wrong = document.getElementById("wrong");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  wrong.textContent = "";
  try {
    const answer = await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: form.elements.token.value }),
    });
    if (answer.ok) return location.reload();
    const { error } = await answer.json();
    wrong.textContent = answer.status === 401 ? "This is not the token." : error;
    form.elements.token.select();
  } catch {
    wrong.textContent = "The proxy does not answer.";
  } finally {
    button.disabled = false;
  }
});
