/* The lessons: links that change the address without loading the page, and the banner of the one that is open. */
ldm.lessons = (element) => {
  const row = element.querySelector("nav"), banners = [...element.querySelectorAll("[data-lesson]")];
  function update() {
    row.hidden = ldm.state.lesson !== null;
    for (const banner of banners) {
      const open = banner.dataset.lesson === ldm.state.lesson;
      if (!open) banner.querySelector("details").open = false;
      banner.hidden = !open;
    }
  }
  row.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    ldm.follow(link.getAttribute("href"));
    banners.find((banner) => !banner.hidden)?.focus({ preventScroll: true }); // from there Space plays
  });
  for (const banner of banners) banner.querySelector("button").addEventListener("click", () => { ldm.leave(); row.querySelector("a").focus(); });
  ldm.listen((what) => { if (what === "lesson") update(); });
  update();
};
