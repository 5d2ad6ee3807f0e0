/* A part of a room that is folded away: it asks when it is opened, and again whenever what was chosen has changed. */
ldm.folded = (element, ask) => {
  let asked = null;
  const refresh = () => {
    if (!ldm.state.started || !element.isConnected || !ldm.visible(element)) return;
    const question = ldm.state.asked[ldm.state.room];
    if (question !== asked) { asked = question; ask(); }
  };
  new ResizeObserver(refresh).observe(element);
  ldm.listen((what) => { if (what === "asked") refresh(); });
};
