/* "Open a folder or a Hub id": the server is asked for what was typed, or what an address names that the page does not
   know; what it opens joins the list of checkpoints. */
ldm.open_models = (element, props, watch) => {
  const dialog = element.querySelector("dialog"), form = dialog.querySelector("form");
  const [submit, close] = form.querySelectorAll("button"), said = form.querySelector("[role=status]");
  let waiting = [], busy = null, byHand = false;

  const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  document.body.classList.toggle("ldm-elsewhere", !(LDM.opens.hub || (LDM.opens.own && here)));

  const press = (id) => document.querySelector(`#${id} button, button#${id}`)?.click();

  function turn(reference) {
    busy = reference;
    submit.disabled = busy !== null;
    close.textContent = busy === null ? "Close" : "Stop";
    if (busy !== null) said.textContent = `Opening ${busy} …`;
  }

  function begin(reference) {
    turn(reference);
    press("ldm-open-begin");
  }

  /* What the address names next; when all is known, the address is read again. */
  function next() {
    if (waiting.length) { begin(waiting.shift()); return; }
    turn(null);
    dialog.close();
    press("ldm-read");
  }

  function refuse(sentence) {
    if (!byHand) { ldm.state.refused[busy] = sentence; next(); return; }
    turn(null);
    said.textContent = sentence;
  }

  function came(answer) {
    if (busy === null || answer?.asked !== busy) return;
    if (answer.told) { said.textContent = answer.told; return; }
    if (answer.refused) { refuse(answer.refused); return; }
    ldm.join(answer);
    if (!byHand) { next(); return; }
    turn(null);
    dialog.close();
    document.body.classList.remove("ldm-choosing");
    ldm.follow(ldm.linkTo("diagnosis", { checkpoint: answer.reference, run: answer.reference }));
  }

  function stop() {
    if (busy === null) return;
    const stopped = busy;
    begin("");
    busy = stopped;
    waiting.forEach((reference) => { ldm.state.refused[reference] = "It was stopped."; });
    waiting = [];
    refuse("It was stopped.");
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { source, dataset, images } = form.elements, shown = images?.value.trim();
    byHand = true;
    begin(source.value.trim() + (dataset.value ? `?dataset=${dataset.value}` : shown ? `?images=${shown}` : ""));
  });
  close.addEventListener("click", () => (busy === null ? dialog.close() : stop()));
  dialog.addEventListener("close", stop); // by Escape
  ldm.listen((what, unknown) => {
    if (what !== "strangers" || busy !== null) return;
    [byHand, waiting] = [false, [...unknown]];
    [form.elements.source.value] = unknown;
    dialog.showModal();
    next();
  });
  watch("value", () => came(props.value));
  ldm.opener = {
    asked: () => [busy],
    failed: () => { if (busy) refuse("The server could not open it."); },
    show: () => { byHand = true; said.textContent = ""; dialog.showModal(); },
  };
};
