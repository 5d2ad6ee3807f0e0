/* One picture per size. A click on it, or on a point of the room's figure, chooses the size that is shown below. */
ldm.sizes = (element, props, watch) => {
  const h = ldmElement;
  const root = element.querySelector(".ldm-sizes"), room = element.closest(".ldm-room");
  const graphs = () => [...room.querySelectorAll(".ldm-pick-size .js-plotly-plot")];

  function choose(size) {
    ldm.change({ size });
    ldm.wanted = true;
  }

  function draw() {
    const pictures = Array.isArray(props.value) ? props.value : [];
    root.replaceChildren(...pictures.map(({ name, src, title, words }) => {
      const inside = [h("img", { src, alt: "" }), h("b", {}, title), ...words.map((line) => h("span", {}, line))];
      return name ? h("button", { type: "button", "data-name": name, onclick: () => choose(name) }, ...inside) : h("figure", {}, ...inside);
    }));
    mark();
  }

  function mark() {
    const { size } = ldm.state.values;
    for (const button of root.querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.name === size);
    const other = ldm.state.pinned?.find(([name]) => name === "size")?.[1];
    graphs().forEach((graph) => {
      graph.querySelectorAll(".ldm-ring").forEach((drawn) => drawn.remove());
      ring(graph, size, "");
      if (other !== size) ring(graph, other, " b");
    });
  }

  /* A ring around the chosen size's point, in each row of the figure; dashed where it is B's. */
  function ring(graph, size, side) {
    if (!graph._fullLayout) return;
    graph.style.position = "relative";
    for (const { ids, x, y, xaxis = "x", yaxis = "y" } of graph.data) {
      const index = ids?.indexOf(size) ?? -1;
      if (index < 0) continue;
      const [across, up] = [xaxis, yaxis].map((name) => graph._fullLayout[name.replace(/^([xy])/, "$1axis")]);
      const place = (axis, value) => axis._offset + axis.d2p(value);
      graph.append(h("div", { class: `ldm-ring${side}`, style: `left:${place(across, x[index])}px;top:${place(up, y[index])}px` }));
    }
  }

  function hook() {
    for (const graph of graphs()) {
      if (graph.ldmChooses || !graph.on) continue;
      graph.ldmChooses = true;
      graph.on("plotly_click", ({ points }) => { const id = points.map(({ data, pointNumber }) => data.ids?.[pointNumber]).find(Boolean); if (id) choose(id); });
      graph.on("plotly_afterplot", mark);
      mark();
    }
  }

  new MutationObserver(hook).observe(room, { childList: true, subtree: true });
  ldm.listen((what) => { if (what === "values" || what === "pin") mark(); });
  watch("value", draw);
  draw();
  hook();
};

/* What was asked for by a click lies below the figure: bring it into sight when it comes. */
ldm.reveal = (element, watch) => {
  watch("value", () => {
    if (!ldm.wanted) return;
    ldm.wanted = !element.querySelector("section");
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    setTimeout(() => element.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" }), 60);
  });
};
