const radians = (degrees) => (degrees * Math.PI) / 180;
const row = (degrees, length) => [
  length * Math.cos(radians(degrees)), length * Math.sin(radians(degrees)),
];
const degreesOf = ([x, y]) => (Math.atan2(y, x) * 180) / Math.PI;
const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
const unit = (a) => a.map((x) => x / Math.hypot(...a));

// The equations, as in Python: air.py, rotation.py, fusion/attention.py.
function measure({ lean, rho, spread }) {
  const keys = [90 - spread / 2, 90 + spread / 2].map((d) => row(d, given.key_norm));
  const query = row(90 - lean, given.query_norm);
  const cosines = (q) => keys.map((k) => dot(unit(q), unit(k)));
  const share = (q) => {
    const mass = keys.map((k, m) => given.tokens[m] * Math.exp(dot(q, k) / Math.SQRT2));
    return mass[0] / (mass[0] + mass[1]);
  };
  const [audio, visual] = cosines(query);
  const air = audio - visual;
  const alpha = (1 + Math.tanh(-rho * air)) / 2;
  const [ka, kv] = keys.map(unit);
  const w = unit([0, 1].map((i) => alpha * ka[i] + (1 - alpha) * kv[i]));
  const u = unit(query);
  const cross = u[0] * w[1] - u[1] * w[0];
  const phi = Math.atan2(cross, dot(u, w));
  const turned = [
    query[0] * Math.cos(phi) - query[1] * Math.sin(phi),
    query[0] * Math.sin(phi) + query[1] * Math.cos(phi),
  ];
  const [audioAfter, visualAfter] = cosines(turned);
  return {
    air, alpha, audio, visual, share: share(query),
    air_after: audioAfter - visualAfter, audio_after: audioAfter, visual_after: visualAfter,
    share_after: share(turned), turn: Math.abs((phi * 180) / Math.PI),
    toward_audio: degreesOf(keys[0]), toward_visual: degreesOf(keys[1]),
    toward_query: degreesOf(query), toward_anchor: degreesOf(turned),
    side: cross < -1e-9 ? -1 : 1,
  };
}

function show(settings) {
  const values = measure(settings);
  const at = (degrees, length) => row(-degrees, length).map((x) => x.toFixed(2)).join(" ");
  for (const [name, value] of Object.entries(values)) root.dataset[name] = value;
  say(written({ ...values, ...settings }));
  for (const e of all("[data-arrow]")) {
    e.setAttribute("transform", `rotate(${(-values["toward_" + e.dataset.arrow]).toFixed(2)})`);
  }
  for (const e of all("[data-tip]")) {
    const { tip, reach, aside } = e.dataset;
    const degrees = values["toward_" + tip] + aside * values.side;
    e.setAttribute("transform", `translate(${at(degrees, Number(reach))})`);
  }
  for (const e of all("[data-bar]")) {
    e.setAttribute("width", (given.bar * values[e.dataset.bar]).toFixed(2));
  }
  const [from, to] = ["query", "anchor"].map((n) => at(values["toward_" + n], given.arc));
  const sweep = values.side < 0 ? 1 : 0;
  root.querySelector("path").setAttribute(
    "d", `M${from}A${given.arc} ${given.arc} 0 0 ${sweep} ${to}`);
}
