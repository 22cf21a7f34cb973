// Everything is computed by Python; the controls only choose what to show.
function show({ level, record = 0 }) {
  const state = given.states[record][level];
  trace({ ...given.curves[record], ...state.paths });
  say(state.texts);
}
