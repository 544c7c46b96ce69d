/** A square to draw on, light on dark, by pointer or keyboard. */

const PEN = 1 / 9;  // its width over the square's side
const STEP = 1 / 24;
const ARROWS = {
  ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0],
};

export class Drawing {
  /**
   * @param {HTMLCanvasElement} canvas The square.
   * @param {{changed: function(): void, cleared: function(): void}} calls Are
   *     made after every line, and when the square is emptied.
   */
  constructor(canvas, {changed, cleared}) {
    this.canvas = canvas;
    this.changed = changed;
    // What is drawn, without the mark of the keyboard's pen.
    this.ink = document.createElement('canvas');
    this.ink.width = this.ink.height = canvas.width;
    this.context = this.ink.getContext('2d', {willReadFrequently: true});
    this.cleared = cleared;
    this.empty();
    canvas.addEventListener('pointerdown', event => this.press(event));
    canvas.addEventListener('pointermove', event => this.move(event));
    for (const name of ['pointerup', 'pointercancel']) {
      canvas.addEventListener(name, () => this.release());
    }
    canvas.addEventListener('keydown', event => this.type(event));
    canvas.addEventListener('focus', () => this.show());
    canvas.addEventListener('blur', () => this.show());
  }

  /** Empties the square, and says so. */
  clear() {
    this.empty();
    this.cleared();
  }

  empty() {
    this.context.fillStyle = '#000';
    this.context.fillRect(0, 0, this.ink.width, this.ink.height);
    this.pen = {x: 0.5, y: 0.5, down: false, byKeyboard: false};
    this.pointer = null;
    this.show();
  }

  press(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pen = {...this.pen, down: false, byKeyboard: false};
    this.pointer = this.place(event);
    this.line(this.pointer, this.pointer);
  }

  move(event) {
    if (!this.pointer) return;
    const there = this.place(event);
    this.line(this.pointer, there);
    this.pointer = there;
  }

  release() {
    if (!this.pointer) return;
    this.pointer = null;
    this.changed();
  }

  type(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) {
      const from = {...this.pen};
      for (const [i, axis] of ['x', 'y'].entries()) {
        this.pen[axis] = Math.min(
            1, Math.max(0, this.pen[axis] + arrow[i] * STEP));
      }
      this.pen.byKeyboard = true;
      if (this.pen.down) this.line(from, this.pen);
    } else if (event.key === ' ') {
      this.pen.byKeyboard = true;
      this.pen.down = !this.pen.down;
      if (this.pen.down) this.line(this.pen, this.pen);
    } else if (event.key === 'Delete' || event.key === 'Backspace') {
      this.clear();
      this.pen.byKeyboard = true;
    } else {
      return;
    }
    event.preventDefault();
    this.show();
    if (this.pen.down) this.changed();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: (event.clientX - box.left) / box.width,
      y: (event.clientY - box.top) / box.height,
    };
  }

  line(from, to) {
    const side = this.ink.width;
    this.context.strokeStyle = '#fff';
    this.context.lineWidth = side * PEN;
    this.context.lineCap = this.context.lineJoin = 'round';
    this.context.beginPath();
    this.context.moveTo(from.x * side, from.y * side);
    this.context.lineTo(to.x * side, to.y * side);
    this.context.stroke();
    this.show();
  }

  show() {
    const context = this.canvas.getContext('2d');
    const side = this.canvas.width;
    context.drawImage(this.ink, 0, 0);
    if (!this.pen.byKeyboard || document.activeElement !== this.canvas) return;
    context.strokeStyle = this.pen.down ? '#ff8f85' : '#7ab8f0';
    context.lineWidth = 4;
    context.beginPath();
    context.arc(
        this.pen.x * side, this.pen.y * side, side * PEN / 2, 0, 2 * Math.PI);
    context.stroke();
  }
}
