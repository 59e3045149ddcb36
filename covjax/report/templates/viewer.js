// Shows the slice that the slider, the wheel, an arrow key or a click on the chart asks for.
const slices = JSON.parse(document.getElementById("slices").textContent);
const [image, slider, caption, cursor, chart] =
  ["image", "slider", "caption", "cursor", "chart"].map((id) => document.getElementById(id));
function show(number) {
  const k = Math.min(slices.length - 1, Math.max(0, number)), one = slices[k];
  slider.value = k;
  image.src = one.src;
  image.alt = caption.textContent = one.text;
  cursor.setAttribute("x", k);
  for (const next of [k + 1, k - 1]) if (slices[next]) new Image().src = slices[next].src;
}
slider.addEventListener("input", () => show(+slider.value));
image.addEventListener("wheel", (event) => {
  event.preventDefault();
  show(+slider.value + Math.sign(event.deltaY));
}, { passive: false });
chart.addEventListener("click", (event) => {
  const box = chart.getBoundingClientRect();
  show(Math.floor((event.clientX - box.left) / box.width * slices.length));
});
document.addEventListener("keydown", (event) => {
  const by = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
  if (by && document.activeElement !== slider) { event.preventDefault(); show(+slider.value + by); }
});
show(+slider.value);
