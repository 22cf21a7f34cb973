const [width, height, timeHeight] = given.size;
const { reach, pace, step } = given;

// The equations, as in Python: theory/loop.py.
function solve(gain, headStart) {
  const velocity = ([lean, gap]) => [
    gain * gap - lean, pace * (Math.tanh(lean) + headStart - gap),
  ];
  const plus = (state, scale, rate) => state.map((x, i) => x + scale * rate[i]);
  function run(start, duration) {
    const h = Math.sign(duration) * step;
    const states = [start];
    for (let n = Math.round(Math.abs(duration) / step); n > 0; n -= 1) {
      const now = states[states.length - 1];
      const a = velocity(now);
      const b = velocity(plus(now, h / 2, a));
      const c = velocity(plus(now, h / 2, b));
      const d = velocity(plus(now, h, c));
      states.push(now.map((x, i) => x + (h / 6) * (a[i] + 2 * b[i] + 2 * c[i] + d[i])));
    }
    return states;
  }

  const excess = (lean) => gain * (Math.tanh(lean) + headStart) - lean;
  function zero(low, high) {
    const sign = Math.sign(excess(low));
    for (let n = 0; n < 100; n += 1) {
      const middle = (low + high) / 2;
      if (Math.sign(excess(middle)) === sign) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  }
  const fold = gain > 1 ? Math.acosh(Math.sqrt(gain)) : 0;
  const limit = gain > 1 ? Math.sqrt(1 - 1 / gain) - fold / gain : 0;
  const bound = gain * (1 + Math.abs(headStart)) + 1;
  const edges = Math.abs(headStart) < limit ? [-bound, -fold, fold, bound] : [-bound, bound];
  const leans = edges.slice(1).map((high, i) => zero(edges[i], high));
  const fixed = leans.map((lean) => [lean, Math.tanh(lean) + headStart]);

  let boundary = [];
  if (fixed.length === 3) {
    const [lean, gap] = fixed[1];
    // The eigenvector of the stable direction, as long as in Python and upward.
    const spread = Math.hypot(1 - pace, 2 * Math.sqrt((pace * gain) / Math.cosh(lean) ** 2));
    const rate = -(1 + pace + spread) / 2;
    const long = Math.hypot(gain, rate + 1);
    const inward = [-gain, -(rate + 1)].map((x) => (1e-4 * x) / long);
    const arms = [-1, 1].map((sign) => {
      const path = run(plus([lean, gap], sign, inward), -30 / (1 + pace));
      const outside = path.findIndex((state) => Math.abs(state[1]) > reach);
      return outside < 0 ? path : path.slice(0, outside + 1);
    });
    boundary = [...arms[0].reverse(), [lean, gap], ...arms[1]];
  }
  return { run, limit, fixed, boundary };
}

function measure({ gain, head_start: headStart, share, turn }) {
  const { run, limit, fixed, boundary } = solve(gain, headStart);
  const shares = (states) => states.map(([lean, gap]) => [(1 + Math.tanh(lean)) / 2, gap]);
  const before = run([Math.atanh(2 * share - 1), 0], given.duration);
  const [lean, gap] = before[before.length - 1];
  const after = run([turn * lean, gap], given.duration);
  const thin = (states) => shares(states.filter((_, i) => i % given.stride === 0));
  const paths = {
    fixed: shares(fixed), boundary: shares(boundary), before: thin(before), after: thin(after),
  };
  const ends = [paths.before, paths.after].map((path) => path[path.length - 1]);
  return {
    values: {
      limit, points: fixed.length, before: ends[0][0], gap_before: ends[0][1],
      turned: paths.after[0][0], after: ends[1][0], gap_after: ends[1][1],
    },
    paths,
  };
}

const line = (states) => states.map(([share, gap]) => [width * share, (-height / 2 / reach) * gap]
  .map((x) => (Math.round(100 * x) / 100 + 0).toFixed(2)).join(" ")).join("L");

function curves({ fixed, boundary, before, after }, { gain, head_start: headStart }) {
  const edge = line(boundary);
  const basins = { audio: "", visual: "" };
  if (edge) {
    basins.audio = `M${edge}L${line([[1, reach], [1, -reach]])}Z`;
    basins.visual = `M${edge}L${line([[0, reach], [0, -reach]])}Z`;
  } else {
    basins[fixed[0][0] > 0.5 ? "audio" : "visual"] =
      `M${line([[1, reach], [1, -reach], [0, -reach], [0, reach]])}Z`;
  }
  const follow = Array.from({ length: 99 }, (_, i) => (i + 1) / 100)
    .map((share) => [share, Math.atanh(2 * share - 1) / gain]);
  const last = before.length - 1;
  const up = ((reach * 2) / height) * timeHeight;
  const time = [...before, ...after].map(([share], i) => [
    (i > last ? (i - last - 1) / last + 1 : i / last) / 2, up * share,
  ]);
  return {
    ...basins,
    boundary: edge && `M${edge}`,
    rest: `M${line([[0, headStart - 1], [1, headStart + 1]])}`,
    follow: `M${line(follow)}`,
    before: `M${line(before)}`,
    jump: `M${line([before[last], after[0]])}`,
    after: `M${line(after)}`,
    time: `M${line(time)}`,
  };
}

function show(settings) {
  const { values, paths } = measure(settings);
  for (const [name, value] of Object.entries(values)) root.dataset[name] = value;
  say(written({ ...values, ...settings }));
  trace(curves(paths, settings));
  const dots = { ...paths.fixed, start: paths.before[0] };
  for (const e of all("[data-dot]")) {
    const state = dots[e.dataset.dot];
    const [x, y] = state ? line([state]).split(" ") : ["-50.00", "0.00"];
    e.setAttribute("cx", x);
    e.setAttribute("cy", y);
  }
}
