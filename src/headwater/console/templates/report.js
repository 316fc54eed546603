// Two conveniences; the page is complete without them.
(function () {
  "use strict";
  var root = document.documentElement;

  // theme: follows the system until the button is pressed, then remembers
  var button = document.getElementById("theme");
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function kept() { try { return localStorage.getItem("headwater-theme"); } catch (_) { return null; } }
  function isDark() { return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches; }
  function show() {
    var now = isDark();
    button.setAttribute("aria-pressed", String(now));
    button.querySelector("span").textContent = now ? "Light" : "Dark";
  }
  var theme = kept();
  if (theme === "dark" || theme === "light") { root.dataset.theme = theme; }
  button.hidden = false;
  button.addEventListener("click", function () {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("headwater-theme", root.dataset.theme); } catch (_) { /* private window: not remembered */ }
    show();
  });
  dark.addEventListener("change", show);
  show();

  // tips: the <title> of each mark, at once and also for a finger
  var tip = document.getElementById("tip");
  document.querySelectorAll(".chart .mark").forEach(function (mark) {
    var title = mark.querySelector("title");
    if (title) { mark.dataset.tip = title.textContent; title.remove(); }
  });
  function move(event) {
    var mark = event.target instanceof Element ? event.target.closest(".mark") : null;
    if (!mark || !mark.dataset.tip) { tip.classList.remove("on"); return; }
    tip.textContent = mark.dataset.tip;
    var box = tip.getBoundingClientRect();
    var x = Math.min(Math.max(event.clientX - box.width / 2, 8), root.clientWidth - box.width - 8);
    var y = event.clientY - box.height - 14;
    tip.style.left = x + "px";
    tip.style.top = (y < 8 ? event.clientY + 18 : y) + "px";
    tip.classList.add("on");
  }
  document.addEventListener("pointermove", move);
  document.addEventListener("pointerdown", move);
  document.addEventListener("scroll", function () { tip.classList.remove("on"); }, { passive: true });

  // contents: which part is being read
  var links = {};
  document.querySelectorAll(".contents a").forEach(function (link) { links[link.hash.slice(1)] = link; });
  var list = document.querySelector(".contents ol");
  var watcher = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) {
      if (!entry.isIntersecting) { return; }
      Object.keys(links).forEach(function (id) { links[id].removeAttribute("aria-current"); });
      var link = links[entry.target.id];
      link.setAttribute("aria-current", "true");
      if (list.scrollWidth > list.clientWidth) { list.scrollLeft = link.offsetLeft - 24; }
    });
  }, { rootMargin: "-15% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach(function (part) { watcher.observe(part); });
})();
