/* The pipeline on top: each box opens its room and shows what the current step has there. */
ldm.strip = (element) => {
  element.querySelectorAll("[data-room]").forEach((box) => box.addEventListener("click", () => ldm.open(box.dataset.room)));
  const select = element.querySelector("select");
  select.addEventListener("change", () => ldm.open(select.value));
  const move = (by) => ldm.open(ldm.names[(ldm.names.indexOf(ldm.state.room) + by + ldm.names.length) % ldm.names.length]);
  element.querySelector(".ldm-previous").addEventListener("click", () => move(-1));
  element.querySelector(".ldm-next").addEventListener("click", () => move(1));
  const large = element.querySelector(".ldm-enlarge");
  large.addEventListener("click", () => { ldm.enlarge(); large.setAttribute("aria-pressed", document.body.classList.contains("ldm-large")); });
  const choose = element.querySelector(".ldm-choose");
  choose.addEventListener("click", () => {
    choose.setAttribute("aria-expanded", document.body.classList.toggle("ldm-choosing"));
  });
  ldm.listen((what, detail) => {
    if (what !== "frame") return;
    for (const picture of detail.frame.sides[0] ?? []) {
      const image = picture.slot && element.querySelector(`[data-slot=${picture.slot}]`);
      if (image) { image.src = picture.src; image.hidden = false; }
    }
  });
};

/* One cursor for pictures and plots: a line where the stage stands, and hovering a plot moves the stage. */
ldm.plots = (() => {
  const SOON_MS = 200;
  const graphs = (room) => [...room.querySelectorAll(".ldm-follow .js-plotly-plot")];
  function line(graph, x) {
    const layout = graph._fullLayout;
    if (!layout?.xaxis) return;
    let cursor = graph.querySelector(".ldm-cursor");
    if (!cursor) {
      cursor = ldmElement("div", { class: "ldm-cursor" });
      graph.style.position = "relative";
      graph.append(cursor);
    }
    const value = layout.xaxis.type === "log" ? Math.log10(Math.max(x, 1e-12)) : x;
    const place = layout.xaxis.l2p(value);
    const inside = place >= 0 && place <= layout.xaxis._length;
    Object.assign(cursor.style, {
      display: inside ? "block" : "none",
      left: `${layout.xaxis._offset + place}px`,
      top: `${layout.margin.t}px`,
      height: `${layout.height - layout.margin.t - layout.margin.b}px`,
    });
  }
  function follow(graph, room) {
    if (graph.ldmFollows || !graph.on) return;
    graph.ldmFollows = true;
    graph.on("plotly_hover", (event) => room.querySelector(".ldm-stage")?.ldm?.nearest(event.points[0].x));
    graph.on("plotly_afterplot", () => refresh(room));
  }
  function refresh(room) {
    const frame = room.querySelector(".ldm-stage")?.ldm?.frame();
    for (const graph of graphs(room)) {
      follow(graph, room);
      if (frame) line(graph, frame.x);
    }
  }
  /* Plotly draws a while after its element stands there, and anew whenever its values change. */
  let soon = null;
  const watched = new MutationObserver(() => {
    if (soon) return;
    soon = setTimeout(() => {
      soon = null;
      const missed = [...document.querySelectorAll(".ldm-room")].filter((room) => graphs(room).some((graph) => !graph.querySelector(".ldm-cursor")));
      missed.forEach(refresh);
    }, SOON_MS);
  });
  watched.observe(document.documentElement, { childList: true, subtree: true });
  ldm.listen((what, detail) => {
    const room = what === "frame" && detail.root.closest(".ldm-room");
    if (room) refresh(room);
  });
  return { refresh };
})();

/* Who clicks a tab looks at the room: Space and the arrows are for its stage, and by keyboard the tabs have them still. */
document.addEventListener("click", (event) => { if (event.detail && event.target.closest?.("[role=tab]")) document.activeElement?.blur(); });

/* By keyboard the arrows lead from tab to tab. */
document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.("[role=tab]"), by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!tab || !by || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  ldm.open(ldm.names[(ldm.names.indexOf(ldm.state.room) + by + ldm.names.length) % ldm.names.length]);
  setTimeout(() => document.querySelector(".ldm-main [role=tab][aria-selected=true]")?.focus(), 100);
});
