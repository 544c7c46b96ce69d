/** The page: an image in, the student's classes out. */
import {Camera} from '/camera.js';
import {Drawing} from '/drawing.js';
import {decode, read} from '/images.js';
import {prepare} from '/pixels.js';
import * as show from '/show.js';
import {load, probabilities, Student} from '/student.js';

const {element} = show;
const camera = new Camera(element('video'));

let about;  // student.json
let student = null;  // the file that is chosen, compiled
let image = null;  // the last that was given: red, green, blue, alpha
let working = Promise.resolve();  // One thing at a time: a model has one state.
let waiting = 0;  // how many there are, the present one included

/** Does work after all work before it; shows its error. */
function next(work) {
  waiting++;
  working = working.then(work)
      .catch(error => show.problem(messageOf(error)))
      .finally(() => waiting--);
}

function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

async function start() {
  const response = await fetch('/student.json');
  about = await response.json();
  show.model(about);
  const most = await load();
  element('threads').replaceChildren(
      ...Array.from({length: most}, (_, i) => new Option(i + 1, i + 1)));
  if (most === 1) {
    element('threads-note').textContent =
        'This browser gives the page one thread: it lacks shared memory or ' +
        'relaxed SIMD, or the processor has one core.';
    element('threads-note').hidden = false;
  }
  const smallest = about.files.reduce((a, b) => a.bytes <= b.bytes ? a : b);
  await choose(smallest.name, 1);
  show.chosen(student);
  listen();
}

/** Runs a file from here on, and the present image through it. */
async function choose(name, threads) {
  const file = about.files.find(each => each.name === name);
  const opened = await Student.open(file, threads);
  student?.delete();
  student = opened;
  await classify();
}

/** Runs the student on the present image, and shows all that follows. */
async function classify() {
  if (!image) return;
  const pixels = prepare(inverted(image), about.preprocessing);
  show.input(pixels, about.preprocessing);
  const values = await student.run(pixels);
  show.classes(probabilities(values, student.file.output), about.labels);
  if (waiting > 1) return;  // A newer image need not wait for the time of this.
  show.latency(await student.measure(pixels), student.file, student.threads);
}

function inverted(given) {
  if (!element('invert').checked) return given;
  return {...given, data: given.data.map((v, i) => i % 4 === 3 ? v : 255 - v)};
}

/** Classifies what a function gives, an image. */
function take(makeImage, {shown = true} = {}) {
  next(async () => {
    show.problem('');
    image = await makeImage();
    element('shown').hidden = true;
    if (shown) show.image(image);
    await classify();
  });
}

function takeFile(file) {
  if (!file) {
    show.problem('That is not an image file: give a JPEG, PNG or WebP file.');
    return;
  }
  closeCamera();
  take(() => decode(file));
}

function listen() {
  listenForFiles();
  if (Camera.exists()) listenForCamera();
  if (about.preprocessing.channels === 1) listenForDrawing();
  element('invert').addEventListener('change', () => next(classify));
  for (const id of ['files', 'threads']) {
    element(id).addEventListener('change', () => next(async () => {
      show.problem('');
      try {
        await choose(
            document.querySelector('input[name=file]:checked').value,
            Number(element('threads').value));
      } finally {
        show.chosen(student);  // the earlier one, if this one has failed
      }
    }));
  }
}

function listenForFiles() {
  element('choose').addEventListener('click', () => element('file').click());
  element('file').addEventListener('change', event => {
    if (event.target.files.length) takeFile(event.target.files[0]);
    event.target.value = '';  // The same file again is a change, too.
  });
  document.addEventListener('paste', event => {
    takeFile(event.clipboardData.files[0]);
  });
  // Anywhere: a file that misses the box must not replace the page.
  document.addEventListener('dragover', event => {
    event.preventDefault();
    element('drop').classList.add('over');
  });
  document.addEventListener('dragleave', event => {
    if (!event.relatedTarget) element('drop').classList.remove('over');
  });
  document.addEventListener('drop', event => {
    event.preventDefault();
    element('drop').classList.remove('over');
    takeFile(event.dataTransfer.files[0]);
  });
}

function listenForCamera() {
  element('camera').hidden = false;
  element('camera').addEventListener('click', async () => {
    if (camera.stream) {
      closeCamera();
      return;
    }
    show.problem('');
    try {
      await camera.open();
    } catch (error) {
      show.problem(messageOf(error));
      return;
    }
    element('shown').hidden = element('hint').hidden = true;
    element('video').hidden = element('shoot').hidden = false;
    element('camera').textContent = 'Close the camera';
    element('shoot').focus();
  });
  element('shoot').addEventListener('click', () => {
    const photo = read(element('video'));
    closeCamera();
    take(() => photo);
  });
}

function closeCamera() {
  camera.close();
  element('video').hidden = element('shoot').hidden = true;
  element('hint').hidden = false;
  element('camera').textContent = 'Use the camera';
}

function listenForDrawing() {
  element('draw').hidden = element('invert-label').hidden = false;
  const drawing = new Drawing(element('pad'), {
    changed: () => {
      closeCamera();
      element('invert').checked = false;
      take(() => read(drawing.ink), {shown: false});
    },
    cleared: () => next(() => {
      image = null;
      show.nothing();
    }),
  });
  element('clear').addEventListener('click', () => drawing.clear());
}

/**
 * For programs that drive the page, such as tests; see docs/guides/browser.md.
 *
 * ready: is fulfilled once the first file is compiled.
 * choose(name, threads): runs a file from there on.
 * pixelsOf(blob): the network's input of an image file, Uint8Array.
 * classifyRaw(pixels): the file's output as it is, uint8 or float32.
 */
window.ftTf = {
  ready: start(),
  choose: (name, threads = 1) => choose(name, threads),
  pixelsOf: async blob => prepare(await decode(blob), about.preprocessing),
  classifyRaw: pixels => student.run(pixels),
};
window.ftTf.ready.catch(error => show.problem(messageOf(error)));
