/* The stage: A and B side by side over one time axis. All steps are here, so looking at another one asks nobody. */
ldm.stage = (element, props, watch) => {
  const h = ldmElement;
  const view = { run: null, at: 0, touched: false, timer: null, show: null, drawn: -1 };
  const root = element.querySelector(".ldm-stage");
  const [sides, details] = [h("div"), h("div")];
  const film = h("div", { class: "ldm-film", role: "presentation" });
  const range = h("input", { type: "range", min: 0, max: 0, value: 0, step: 1, oninput: () => seek(Number(range.value)) });
  const label = h("output", { class: "ldm-label" });
  const playing = h("button", { type: "button", class: "ldm-play", onclick: () => play() }, "▶ Play");
  const speed = h("select", { "aria-label": "Steps per second" }, ...[2, 5, 10, 20].map((rate) => h("option", { value: rate, selected: rate === 5 }, `${rate} a second`)));
  const back = h("button", { type: "button", "aria-label": "One step back", onclick: () => seek(view.at - 1) }, "◂");
  const forth = h("button", { type: "button", "aria-label": "One step on", onclick: () => seek(view.at + 1) }, "▸");
  const stopping = h("button", { type: "button", class: "ldm-stop", onclick: () => halt() }, "■ Stop");
  const time = h("div", { class: "ldm-time" }, film, h("div", { class: "ldm-player" }, playing, back, range, forth, speed, label, stopping));
  const status = h("p", { class: "ldm-status", role: "status" });
  root.replaceChildren(sides, time, h("div", { class: "ldm-below" }, details, status));
  root.ldm = { seek, play, step: (by) => seek(view.at + by), nearest, count: () => view.show?.frames.length ?? 0, done: () => Boolean(view.show?.done) && !waiting(), at: () => view.at, halted: () => Boolean(view.halted), frame: () => view.show?.frames[view.at], show: () => view.show };

  const room = () => element.closest(".ldm-room")?.querySelector("[id^=ldm-ask-]")?.id.slice("ldm-ask-".length);
  const waiting = () => view.show?.question !== ldm.state.asked[room()];
  ldm.listen((what, name) => { if (what === "asked" && name === room()) view.halted = false; if (what === "asked") root.classList.toggle("waiting", Boolean(view.show) && waiting()); });

  function update() {
    const show = props.value;
    if (show?.done && show.question !== ldm.state.asked[room()]) { late(); return; } // a choice overtook the one before it
    if (!show || !show.frames) { root.classList.add("empty"); return; }
    root.classList.remove("empty");
    if (show.id !== view.run) { Object.assign(view, { run: show.id, at: 0, touched: false, drawn: -1, halted: false }); stop(); film.replaceChildren(); }
    const stoodLast = view.at === (view.show?.frames.length ?? 0) - 1;
    const last = show.frames.length - 1, grown = last + 1 > (view.show?.frames.length ?? 0);
    view.show = show;
    root.classList.toggle("waiting", waiting());
    range.max = Math.max(last, 0);
    time.classList.toggle("single", show.total <= 1);
    range.setAttribute("aria-label", show.axis);
    drawFilm(show);
    if (!view.touched) {
      const wanted = ldm.state.step ?? (show.done ? show.open_at : null); // a link's step stands still while others come
      draw(Math.min(wanted ?? last, last));
    } else draw(stoodLast && grown ? last : view.at); // who watches the end goes along with it
    root.classList.toggle("alone", show.sides.length === 1);
    say();
  }

  /* Ask once more where nothing else comes. */
  function late() {
    clearTimeout(view.late);
    view.late = setTimeout(() => { if (ldm.state.room === room() && waiting()) ldm.again(""); }, 1500);
  }

  /* End the run and keep what is there of it; the same button lets it go on. */
  function halt() {
    if (view.halted) ldm.resume(); else ldm.halt();
    view.halted = !view.halted;
    say();
  }

  function drawFilm(show) {
    const every = Math.max(1, Math.ceil(show.total / 24));
    if (film.dataset.every !== String(every)) film.replaceChildren();
    film.dataset.every = every;
    film.hidden = !show.frames.some(({ thumb }) => thumb);
    for (let index = film.childElementCount * every; index < show.frames.length; index += every) {
      const frame = show.frames[index];
      film.append(h("img", { src: frame.thumb, alt: "", title: frame.label, "data-index": index, onclick: () => seek(index) }));
    }
  }

  function draw(at) {
    view.at = Math.max(0, Math.min(at, view.show.frames.length - 1));
    const frame = view.show.frames[view.at];
    if (!frame) { sides.replaceChildren(); details.replaceChildren(); return; }
    range.value = view.at;
    range.setAttribute("aria-valuetext", frame.label);
    label.textContent = frame.label;
    const shown = Number(film.children[1]?.dataset.index ?? 1);
    [...film.children].forEach((image, index) => image.classList.toggle("now", Math.floor(view.at / shown) === index));
    const large = frame.sides.map((pictures) => pictures.filter(({ size }) => size === "large"));
    part(sides, large, "h3", ({ title }) => [title]);
    part(details, frame.sides.map((pictures) => pictures.filter(({ size }) => size !== "large")), "dl", ({ facts = [] }, index) =>
      (frame.facts?.[index] ?? facts).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    for (const row of [sides, details]) row.style.setProperty("--columns", large.map(({ length }) => `minmax(0, ${length || 1}fr)`).join(" "));
    say();
    ldm.tell("frame", { frame, show: view.show, root });
  }

  /* A step that was on its way when the run was stopped does not set it going again. */
  function say() {
    const { done, frames, sentence, axis, total } = view.show, going = !done && !view.halted;
    element.closest(".tabitem")?.classList.toggle("ldm-running", going);
    Object.assign(stopping, { hidden: done, textContent: going ? "■ Stop" : "▶ Go on" });
    const ended = frames[view.at]?.sentence || sentence || "";
    const said = done ? ended : going ? `${axis} ${frames.length} of ${total}` : `Stopped at ${frames.at(-1).label}.`;
    if (status.textContent !== said) status.textContent = said;
  }

  /* The pictures of every side in a row of columns, under or over the words there are for each. */
  function part(row, columns, tag, words) {
    row.className = `ldm-sides ldm-sides-${columns.length}`;
    while (row.childElementCount > columns.length) row.lastChild.remove();
    columns.forEach((pictures, index) => {
      if (!row.children[index]) {
        const column = h("section", {}, h("div", { class: "ldm-pictures" }));
        column[tag === "h3" ? "prepend" : "append"](h(tag));
        row.append(column);
      }
      const column = row.children[index];
      column.dataset.side = view.show.sides[index].title;
      column.querySelector(tag).replaceChildren(...words(view.show.sides[index], index));
      fill(column.querySelector(".ldm-pictures"), pictures);
    });
  }

  function fill(holder, pictures) {
    while (holder.childElementCount > pictures.length) holder.lastChild.remove();
    pictures.forEach((picture, place) => {
      const kind = Object.keys(ldm.drawings).find((name) => picture[name]) ?? "picture";
      let whole = holder.children[place];
      if (whole?.dataset.kind !== kind) {
        const made = h("figure", { "data-kind": kind }, kind === "picture" ? h("img") : ldm.drawings[kind].make(), h("figcaption", {}, h("b"), " ", h("span")));
        if (whole) whole.replaceWith(made); else holder.append(made);
        whole = made;
      }
      whole.classList.toggle("wide", Boolean(picture.wide));
      const [drawn, caption] = whole.children;
      if (kind === "picture") { drawn.src = picture.src; drawn.alt = `${picture.title}. ${picture.caption}`; }
      else ldm.drawings[kind].draw(drawn, picture);
      caption.firstChild.textContent = picture.title;
      caption.lastChild.textContent = picture.caption;
    });
  }

  function seek(at) {
    if (!view.show) return;
    view.touched = true;
    draw(at);
    ldm.seek(view.at);
  }

  function nearest(x) {
    const distance = (frame) => Math.abs(frame.x - x);
    const frames = view.show?.frames ?? [];
    const best = frames.reduce((least, frame, index) => (distance(frame) < distance(frames[least]) ? index : least), 0);
    if (frames.length && best !== view.at) seek(best);
  }

  function play() {
    if (view.timer) { stop(); return; }
    if (!view.show) return;
    if (view.at >= view.show.frames.length - 1) seek(0);
    playing.textContent = "❚❚ Pause";
    const next = () => {
      if (view.at >= view.show.frames.length - 1) { stop(); return; }
      seek(view.at + 1);
      view.timer = setTimeout(next, 1000 / Number(speed.value));
    };
    view.timer = setTimeout(next, 1000 / Number(speed.value));
  }

  function stop() {
    clearTimeout(view.timer);
    view.timer = null;
    playing.textContent = "▶ Play";
  }

  watch("value", update);
  update();
};

ldm.stages = () => [...document.querySelectorAll(".ldm-stage")].filter(ldm.visible);

/* Space plays, the arrows step, wherever the focus is but in a control that takes these keys itself. */
document.addEventListener("keydown", (event) => {
  const taken = event.target.closest?.("input, textarea, select, button, [role=tab], [role=option], [role=listbox], [contenteditable]");
  if (taken || event.altKey || event.ctrlKey || event.metaKey) return;
  const stage = ldm.stages()[0]?.ldm;
  if (!stage?.count()) return;
  if (event.key === " ") stage.play();
  else if (event.key === "ArrowLeft") stage.step(-1);
  else if (event.key === "ArrowRight") stage.step(1);
  else return;
  event.preventDefault();
});

/* What a stage shows beside pictures, by the key that a picture holds it under. */
ldm.drawings = {};

/* How often values of the latents occur, beside the standard normal, from -4 to 4. */
ldm.drawings.histogram = (() => {
  const SVG = "http://www.w3.org/2000/svg", WIDTH = 160, HEIGHT = 90;
  const part = (tag, name) => { const made = document.createElementNS(SVG, tag); made.setAttribute("class", name); return made; };
  const normal = (value) => Math.exp((-value * value) / 2) / Math.sqrt(2 * Math.PI);
  const path = (densities, top) => densities.map((density, index) => `${index ? "L" : "M"}${(index * WIDTH) / (densities.length - 1)},${HEIGHT - (density / top) * HEIGHT}`).join("");
  function make() {
    const svg = part("svg", "ldm-histogram");
    svg.setAttribute("viewBox", `0 -4 ${WIDTH} ${HEIGHT + 4}`);
    svg.setAttribute("role", "img");
    svg.append(part("path", "values"), part("path", "normal"));
    return svg;
  }
  function draw(svg, picture) {
    const densities = picture.histogram, top = Math.max(0.8, ...densities);
    svg.setAttribute("aria-label", `${picture.title}. ${picture.caption}`);
    svg.children[0].setAttribute("d", `M0,${HEIGHT}${path(densities, top).replace("M", "L")}L${WIDTH},${HEIGHT}Z`);
    const places = Array.from({ length: 41 }, (_, index) => normal(-4 + index / 5));
    svg.children[1].setAttribute("d", path(places, top));
  }
  return { make, draw };
})();
