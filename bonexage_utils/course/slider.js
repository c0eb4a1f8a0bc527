// Puts the controls above the picture of a slider and switches the frames that the page already holds: no kernel, no
// library. A notebook shows its outputs in places that differ (frames, copies, shadows), so a slider is known by `key`.
(key, told) => {
  for (const figure of document.querySelectorAll(`[data-slider="${key}"]:not([data-awake])`)) {
    figure.dataset.awake = "";
    const stage = figure.querySelector("div"), image = figure.querySelector("img");
    const caption = figure.querySelector("figcaption");
    const element = (name, facts) => Object.assign(document.createElement(name), facts);
    const controls = element("div");
    controls.style.cssText = "display: flex; flex-wrap: wrap; flex: none; max-width: 100%; align-items: center; gap: 0.3em 1em";
    controls.onkeydown = (event) => event.stopPropagation(); // else JupyterLab takes the arrow keys
    const named = (text, control) => {
      const label = element("label", { textContent: `${text} ` });
      label.style.cssText = "display: flex; min-width: 0; align-items: center; gap: 0.5em; margin: 0";
      label.append(control);
      controls.append(label);
    };
    const menu = element("select"), range = element("input", { type: "range", min: 0 }), value = element("output");
    let group, playing = 0;
    const show = () => {
      const frame = group.frames[range.value];
      image.src = told.pictures[frame.picture];
      [image.alt, caption.textContent, value.textContent] = [frame.alt, frame.alt, frame.value];
      range.setAttribute("aria-valuetext", frame.value);
      caption.style.minHeight = `${caption.offsetHeight}px`; // what stands below must not jump
    };
    const choose = () => {
      group = told.groups[menu.selectedIndex];
      range.max = group.frames.length - 1;
      range.value = group.start;
      show();
    };
    const pause = () => {
      playing = clearInterval(playing);
      play.textContent = "Play";
    };
    const play = element("button", { type: "button", textContent: "Play" });
    play.onclick = () => {
      if (playing) return pause();
      if (range.value === range.max) range.value = 0;
      play.textContent = "Pause";
      playing = setInterval(() => {
        range.stepUp();
        show();
        if (range.value === range.max || !range.isConnected) pause();
      }, 200);
    };
    menu.append(...told.groups.map((each) => element("option", { textContent: each.name })));
    menu.onchange = choose;
    range.oninput = () => {
      pause();
      show();
    };
    range.style.cssText = "flex: 0 1 auto; width: 22em; min-width: 4em; margin: 0";
    value.style.cssText = "min-width: 6em";
    value.setAttribute("aria-live", "off"); // the slider tells its value itself
    if (told.groups.length > 1) named(told.menu, menu);
    named(told.label, range);
    controls.append(value);
    if (told.play) controls.append(play);
    stage.prepend(controls);
    // In a frame of its own (Colab) the window's height follows the output's: measure by the screen there.
    if (window !== window.parent) stage.style.maxHeight = `${0.52 * screen.availHeight}px`;
    choose();
  }
}
