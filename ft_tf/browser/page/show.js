/** What the page shows of the model and of its results. */

const MOST_CLASSES = 5;
const MILLISECONDS = [[1, 3], [10, 2], [Infinity, 1]];  // below, decimals

export const element = id => document.getElementById(id);

const whole = new Intl.NumberFormat('en');
const percent = percentages(1);
const accuracy = percentages(2);

function percentages(digits) {
  return new Intl.NumberFormat('en', {
    style: 'percent',
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** Shows an error, or none if the text is empty. */
export function problem(text) {
  element('problem').textContent = text;
  element('problem').hidden = !text;
}

/** Shows what student.json says. */
export function model({labels, preprocessing, files, teacher, litert}) {
  const {height, width, channels} = preprocessing;
  const colours = channels === 1 ? 'grey' : 'colour';
  element('summary').textContent =
      `${whole.format(labels.length)} classes, ${colours} images of ` +
      `${width} × ${height} pixels. The student runs in this page.`;
  element('litert').textContent = litert;
  element('input-size').textContent =
      `What the network sees: ${width} × ${height}, ` +
      `${describe(preprocessing)}.`;
  element('ratio-title').hidden = !teacher;
  element('files').tBodies[0].replaceChildren(
      ...files.map(file => row(file, teacher)));
  if (teacher) {
    element('teacher').textContent =
        `The teacher's float32 file has ${whole.format(teacher.bytes)} bytes ` +
        `and a test accuracy of ${accuracy.format(teacher.accuracy)}.`;
  }
}

function describe({resizing, central_fraction: fraction, channels, sizes}) {
  const grey = channels === 1 ? ', in grey' : '';
  if (resizing !== 'crop') return `the whole image, resized${grey}`;
  const [height, width] = sizes[0];
  const part = height === width ?
      'shorter side' : `largest part of ${height} to ${width}`;
  return `the middle ${percent.format(fraction)} of the ${part}, ` +
      `resized${grey}`;
}

/** Returns the row of a file, with the radio button that chooses it. */
function row(file, teacher) {
  const line = document.createElement('tr');
  const label = document.createElement('label');
  const button = document.createElement('input');
  Object.assign(button, {type: 'radio', name: 'file', value: file.name});
  label.append(button, file.name);
  cell(line, 'File').append(label);
  cell(line, 'Bytes').textContent = whole.format(file.bytes);
  if (teacher) {
    cell(line, 'Against the teacher').textContent =
        compare(file.bytes, teacher.bytes);
  }
  cell(line, 'Test accuracy').textContent = accuracy.format(file.accuracy);
  cell(line, 'Latency here').textContent = '–';
  return line;
}

function compare(bytes, teacherBytes) {
  const times = teacherBytes / bytes;
  return times >= 1 ? `${times.toFixed(1)} times smaller` :
                      `${(1 / times).toFixed(1)} times larger`;
}

function cell(line, title) {
  const made = line.insertCell();
  made.dataset.title = title;
  return made;
}

/** Shows which file runs, in how many threads. */
export function chosen({file, threads}) {
  for (const button of document.getElementsByName('file')) {
    button.checked = button.value === file.name;
  }
  element('threads').value = threads;
}

/** Shows the classes with the highest probabilities. */
export function classes(probabilities, labels) {
  const order = Array.from(probabilities.keys())
      .sort((one, other) => probabilities[other] - probabilities[one])
      .slice(0, MOST_CLASSES);
  element('best').textContent =
      `${labels[order[0]]}: ${percent.format(probabilities[order[0]])}`;
  element('classes').replaceChildren(...order.map(i => {
    const item = document.createElement('li');
    const name = document.createElement('span');
    const share = document.createElement('span');
    const bar = document.createElement('div');
    const filled = document.createElement('span');
    name.textContent = labels[i];
    share.textContent = percent.format(probabilities[i]);
    bar.className = 'bar';
    filled.style.width = `${100 * probabilities[i]}%`;
    bar.append(filled);
    item.append(name, share, bar);
    return item;
  }));
}

/** Shows that there is no image. */
export function nothing() {
  element('best').textContent = 'No image yet.';
  element('classes').replaceChildren();
  element('seen').hidden = element('shown').hidden = true;
}

/** Shows the time of one image, from times in order of size. */
export function latency(times, file, threads) {
  const middle = times.length >> 1;
  const median = times.length % 2 ?
      times[middle] : (times[middle - 1] + times[middle]) / 2;
  const [, decimals] = MILLISECONDS.find(([limit]) => median < limit);
  const text = `${median.toFixed(decimals)} ms`;
  const used = threads === 1 ? '1 thread' : `${threads} threads`;
  element('latency').textContent =
      `${text} per image: median of ${times.length} runs, ${used}, ` +
      `${file.name}.`;
  for (const line of element('files').tBodies[0].rows) {
    if (line.querySelector('input').value === file.name) {
      line.cells[line.cells.length - 1].textContent = `${text}, ${used}`;
    }
  }
}

/** Shows the input of the network, [height, width, channels]. */
export function input(pixels, {height, width, channels}) {
  const image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      image.data[4 * i + c] = pixels[i * channels + (channels === 3 ? c : 0)];
    }
    image.data[4 * i + 3] = 255;
  }
  const canvas = element('input');
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext('2d').putImageData(image, 0, 0);
  element('seen').hidden = false;
}

/** Shows the image that was given, as large as its card allows. */
export function image({width, height, data}) {
  const canvas = element('shown');
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext('2d').putImageData(
      new ImageData(new Uint8ClampedArray(data), width, height), 0, 0);
  canvas.hidden = false;
}
