/* The test images to choose from: one picture of them all, cut into buttons. */
ldm.picker = (element, watch, pick, names = ["class_name", "number"]) => {
  const root = element.querySelector(".ldm-picker");
  let shown = null;
  function update() {
    const { checkpoint, [names[0]]: class_name, [names[1]]: number } = ldm.state.values;
    const set = LDM.images[LDM.checkpoints[checkpoint]];
    if (!set) { root.replaceChildren(); shown = null; return; }
    if (shown !== set) { fill(set); shown = set; }
    const one = ldm.state.room && !ldm.rooms[ldm.state.room].parameters.includes("number");
    root.classList.toggle("classes", Boolean(one));
    root.hidden = Boolean(one) && set.classes.length < 2; // of one class there is nothing to choose
    for (const button of root.querySelectorAll("button")) {
      const chosen = button.dataset.name === class_name && (one || Number(button.dataset.number) === number);
      button.setAttribute("aria-pressed", chosen);
    }
  }
  function fill(set) {
    const rows = set.classes.map(({ name, count }, row) =>
      Array.from({ length: count }, (_, column) => {
        const choose = () => { ldm.picked = [name, column + 1]; pick(); };
        const known = { type: "button", "data-name": name, "data-number": column + 1, onclick: choose };
        if (!set.address) return ldmElement("button", { ...known, title: `class ${name}` }, name);
        const style = `background-image:url(${set.address});background-size:${set.columns * 100}% ${set.classes.length * 100}%;` +
          `background-position:${(column / Math.max(1, set.columns - 1)) * 100}% ${(row / Math.max(1, set.classes.length - 1)) * 100}%`;
        const said = `${name}, ${set.own ? "" : "test "}image ${column + 1}`;
        return ldmElement("button", { ...known, style, title: said, "aria-label": said });
      }));
    root.replaceChildren(...rows.flat());
    root.style.setProperty("--columns", set.columns);
    root.classList.toggle("named", !set.address);
  }
  ldm.listen((what) => { if (what === "values") update(); });
  watch("value", update);
  update();
};
