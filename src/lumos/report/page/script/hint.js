// Hints: what a drawn thing is, beside the pointer, the finger or the focus.
const hint = {
  show(text, x, y) {
    const box = document.getElementById("hint");
    box.textContent = text;
    box.hidden = false;
    const left = Math.min(Math.max(x + 14, 8), innerWidth - box.offsetWidth - 8);
    const below = y + 18 + box.offsetHeight < innerHeight;
    box.style.transform = `translate(${Math.max(left, 8)}px, ${below ? y + 18 : y - box.offsetHeight - 12}px)`;
  },
  hide() { document.getElementById("hint").hidden = true; },
};

// In a drawing one thing can be tabbed to; arrows lead to the others.
function hints() {
  const marked = (event) => event.target.closest?.("[data-hint]");
  document.addEventListener("pointerover", (event) => {
    const one = marked(event);
    if (one) hint.show(one.dataset.hint, event.clientX, event.clientY);
  });
  document.addEventListener("pointermove", (event) => {
    const one = marked(event);
    if (one) hint.show(one.dataset.hint, event.clientX, event.clientY);
  });
  document.addEventListener("pointerout", (event) => { if (marked(event)) hint.hide(); });
  document.addEventListener("focusin", (event) => {
    const one = marked(event);
    if (!one) return;
    const box = one.getBoundingClientRect();
    hint.show(one.dataset.hint, box.left + box.width / 2, box.bottom - 8);
  });
  document.addEventListener("focusout", (event) => { if (marked(event)) hint.hide(); });
  addEventListener("scroll", hint.hide, { passive: true });
  for (const drawing of document.querySelectorAll(".roving")) {
    const things = [...drawing.querySelectorAll("[data-hint]")];
    things.forEach((one, place) => {
      one.setAttribute("tabindex", place ? "-1" : "0");
      one.setAttribute("role", "img");
      one.setAttribute("aria-label", one.dataset.hint.replace("\n", ", "));
    });
    drawing.addEventListener("keydown", (event) => {
      const place = things.indexOf(document.activeElement);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (place < 0 || !step) return;
      const next = things[place + step];
      event.preventDefault();
      if (!next) return;
      things[place].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }
}
