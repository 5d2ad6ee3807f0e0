/* A part of a room that is folded away: it asks when it is opened, and again whenever what was chosen has changed. */
ldm.folded = (element, ask) => {
  let asked = null;
  const refresh = () => {
    const room = element.closest(".ldm-room")?.querySelector("[id^=ldm-ask-]")?.id.slice("ldm-ask-".length);
    if (room !== ldm.state.room || !ldm.visible(element)) return; // while another room opens, both are seen
    const question = ldm.state.asked[room];
    if (question !== asked) { asked = question; ask(); }
  };
  new ResizeObserver(refresh).observe(element);
  ldm.listen((what) => { if (what === "asked") refresh(); });
};
