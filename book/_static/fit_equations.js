// An equation that is wider than its column is set smaller, so that all of it is seen.
const fitEquations = () => {
  for (const box of document.querySelectorAll('mjx-container[display="true"]')) {
    box.style.fontSize = box.dataset.size ??= box.style.fontSize;
    const row = box.parentElement;
    const number = row.querySelector(":scope > .eqno");
    const room = row.clientWidth - (number ? number.offsetWidth + 12 : 0);
    const width = box.querySelector("mjx-math").getBoundingClientRect().width;
    if (width > room) {
      box.style.fontSize = `${(parseFloat(getComputedStyle(box).fontSize) * room) / width}px`;
    }
  }
};
window.addEventListener("load", () => window.MathJax?.startup?.promise.then(fitEquations));
window.addEventListener("resize", fitEquations);
