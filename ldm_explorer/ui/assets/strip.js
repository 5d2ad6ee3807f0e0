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
  const watched = new MutationObserver((changes) => {
    const rooms = new Set(changes.map((change) => change.target.closest?.(".ldm-room")).filter(Boolean));
    rooms.forEach((room) => { if (graphs(room).some((graph) => !graph.ldmFollows)) refresh(room); });
  });
  addEventListener("DOMContentLoaded", () => watched.observe(document.body, { childList: true, subtree: true }));
  ldm.listen((what, detail) => {
    const room = what === "frame" && detail.root.closest(".ldm-room");
    if (room) refresh(room);
  });
  return { refresh };
})();
