"use strict";
// The attention viewer: paints maps over their probe. Everything it shows is in the page's own JSON.
for (const root of document.querySelectorAll("[data-viewer]")) {
  const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const heat = bytes(data.heat), change = bytes(data.change);
  const images = data.images.map((image) => ({ ...image, pixels: bytes(image.pixels) }));
  const unpack = (maps) => maps && maps.map((block) => block && { ...block, cells: bytes(block.cells) });
  const reference = unpack(data.reference);
  const engines = data.engines.map((engine) => ({ ...engine, maps: unpack(engine.maps), differences: unpack(engine.differences) }));
  const chosen = (name) => Number(root.querySelector(`input[data-choice="${name}"]:checked`).value);
  const strength = root.querySelector("[data-strength]"), amplify = root.querySelector("[data-amplify]");
  const number = (value) => value === 0 ? "0" : value >= 0.001 ? value.toFixed(4) : value.toExponential(1);

  function paint(canvas, image, at) {
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d"), target = context.createImageData(image.width, image.height);
    for (let y = 0, i = 0; y < image.height; y++) {
      for (let x = 0; x < image.width; x++, i++) {
        const grey = (image.pixels[3 * i] + image.pixels[3 * i + 1] + image.pixels[3 * i + 2]) / 3;
        const [red, green, blue, alpha] = at ? at(x, y) : [0, 0, 0, -1];
        for (const [channel, colour] of [red, green, blue].entries()) {
          target.data[4 * i + channel] = alpha < 0 ? image.pixels[3 * i + channel] : alpha * colour + (1 - alpha) * grey;
        }
        target.data[4 * i + 3] = 255;
      }
    }
    context.putImageData(target, 0, 0);
  }

  function overlay(block, probe, subspace, image, colours, gain) {
    const { height, width } = block, start = (probe * block.subspaces + subspace) * height * width;
    const alpha = strength.value / 100;
    return (x, y) => {
      const cell = block.cells[start + Math.floor(y * height / image.height) * width + Math.floor(x * width / image.width)];
      const level = gain === null ? cell : Math.max(0, Math.min(255, Math.round(127.5 + (cell - 127.5) * gain)));
      return [colours[3 * level], colours[3 * level + 1], colours[3 * level + 2], alpha];
    };
  }

  function peak(block, probe, subspace) {
    const size = block.height * block.width, start = (probe * block.subspaces + subspace) * size;
    let best = 0;
    for (let i = 1; i < size; i++) if (block.cells[start + i] > block.cells[start + best]) best = i;
    return `row ${Math.floor(best / block.width) + 1}, column ${best % block.width + 1}`;
  }

  function show(canvas, caption, image, at, words) {
    paint(canvas, image, at);
    canvas.setAttribute("aria-label", words);
    caption.textContent = words;
  }

  function draw() {
    const probe = chosen("probe"), index = chosen("block"), image = images[probe], block = reference[index];
    for (const label of root.querySelectorAll("[data-subspace]")) label.hidden = Number(label.dataset.subspace) >= block.subspaces;
    if (chosen("subspace") >= block.subspaces) root.querySelector('input[data-choice="subspace"]').checked = true;
    const subspace = chosen("subspace"), top = block.scales[probe][subspace];
    const panels = [...root.querySelectorAll(".panels figure")].map((figure) => [figure.querySelector("canvas"), figure.querySelector("figcaption")]);
    const uniform = 1 / (data.sizes[index][1] * data.sizes[index][2]);
    show(...panels[0], image, null, `The probe ${data.probes[probe]}`);
    show(...panels[1], image, overlay(block, probe, subspace, image, heat, null),
      `PyTorch: peak ${number(top)} at ${peak(block, probe, subspace)} (uniform: ${number(uniform)})`);
    const said = [`Probe ${data.probes[probe]}, block ${data.blocks[index]}, subspace ${subspace + 1} of ${block.subspaces}.`, panels[1][1].textContent + "."];
    engines.forEach((engine, e) => {
      const [map, difference] = [panels[2 + 2 * e], panels[3 + 2 * e]];
      const own = engine.maps[index], apart = engine.differences[index];
      for (const [canvas] of [map, difference]) canvas.hidden = !own;
      if (!own) {
        map[1].textContent = `${engine.label}: this block's map was not found among its tensors`;
        difference[1].textContent = "";
        return;
      }
      const largest = apart.scales[probe][subspace], gain = amplify.checked ? 1 : largest / (0.1 * top);
      show(...map, image, overlay(own, probe, subspace, image, heat, null), `${engine.label}: peak ${number(own.scales[probe][subspace])} at ${peak(own, probe, subspace)}`);
      show(...difference, image, overlay(apart, probe, subspace, image, change, gain),
        `${engine.label} less PyTorch: at most ${number(largest)}, ${number(largest / top)} of the peak`);
      said.push(difference[1].textContent + ".");
    });
    root.querySelector("[data-said]").textContent = said.join(" ");
  }

  root.querySelectorAll("[data-thumbnail]").forEach((canvas) => paint(canvas, images[Number(canvas.dataset.thumbnail)], null));
  root.addEventListener("input", draw);
  root.querySelector("[data-controls]").hidden = false;
  draw();
}
