"use strict";
// Figures, enlarged: by buttons, keys (+, -, 0), and a wheel with Ctrl; the picture is a drawing and stays sharp.
{
  const dialog = document.getElementById("zoom-dialog");
  const image = document.getElementById("zoom-image");
  const canvas = dialog.querySelector(".canvas");
  let scale = 1;

  const show = (next) => {
    const before = scale;
    scale = Math.min(12, Math.max(1, next));
    const x = (canvas.scrollLeft + canvas.clientWidth / 2) / before;
    const y = (canvas.scrollTop + canvas.clientHeight / 2) / before;
    image.style.width = 100 * scale + "%";
    canvas.scrollLeft = x * scale - canvas.clientWidth / 2;
    canvas.scrollTop = y * scale - canvas.clientHeight / 2;
  };
  const step = (direction) => show(direction === 0 ? 1 : scale * (direction > 0 ? 1.4 : 1 / 1.4));

  for (const button of document.querySelectorAll("button.zoom")) {
    button.addEventListener("click", () => {
      const picture = button.querySelector("img");
      image.src = picture.src;
      image.alt = picture.alt;
      document.getElementById("zoom-title").textContent = button.closest("figure").querySelector("h3").textContent;
      dialog.showModal();
      show(1);
      canvas.focus();
    });
  }
  for (const button of dialog.querySelectorAll("[data-scale]")) {
    button.addEventListener("click", () => step(Number(button.dataset.scale)));
  }
  dialog.addEventListener("keydown", (event) => {
    const direction = { "+": 1, "=": 1, "-": -1, "0": 0 }[event.key];
    if (direction === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    step(direction);
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    step(event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
}
