// Heights come in tenths; all statistics and texts are Python's.
function show({ rho, beta }) {
  const point = given.points[given.cells[rho * given.betas.length + beta]];
  const texts = { ...given.fixed, rho: given.rhos[rho], beta: given.betas[beta] };
  given.names.forEach((name, i) => { texts[name] = point.texts[i]; });
  const spot = (y, i) => `${given.x[i]} ${(y / 10).toFixed(1)}`;
  const paths = { rotations: point.rotations };
  for (const [name, heights] of Object.entries(point.curves)) {
    const [middle, upper, lower] = heights.map((ys) => ys.map(spot));
    paths[`mean-${name}`] = `M${middle.join("L")}`;
    paths[`band-${name}`] = `M${[...upper, ...lower.reverse()].join("L")}Z`;
  }
  trace(paths);
  say(texts);
}
