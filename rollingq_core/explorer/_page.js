(() => {
  const root = document.currentScript.parentElement;
  const all = (selector) => [...root.querySelectorAll(selector)];
  const given = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const inputs = Object.fromEntries(all("input, select").map((input) => [input.name, input]));

  function say(texts) {
    const fill = (name) => name in given.templates
      ? given.templates[name].replace(/\{(\w+)\}/g, (_, part) => texts[part])
      : texts[name];
    for (const e of all("[data-text]")) e.textContent = fill(e.dataset.text);
    root.querySelector("svg").setAttribute("aria-label", fill("label"));
    for (const input of all("input")) input.setAttribute("aria-valuetext", fill(input.name));
  }

  function trace(paths) {
    for (const e of all("[data-path]")) e.setAttribute("d", paths[e.dataset.path]);
  }

  function written(values) {
    return Object.fromEntries(Object.entries(given.digits).map(([name, [digits, sign]]) => {
      const text = Math.abs(values[name]).toFixed(digits);
      const minus = values[name] < 0 && Number(text) !== 0;
      return [name, (minus ? "−" : sign && Number(text) !== 0 ? "+" : "") + text];
    }));
  }

  // The explorer's own script stands here.

  function draw() {
    show(Object.fromEntries(
      Object.entries(inputs).map(([name, input]) => [name, Number(input.value)])));
  }
  for (const input of Object.values(inputs)) {
    input.disabled = false;
    input.addEventListener("input", draw);
  }
  draw();
})();
