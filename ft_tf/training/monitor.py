"""What a run says while it works: metrics rows, TensorBoard, progress."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm
from tensorboard.plugins.hparams import api as hparams

from ft_tf import run_dir

_SECONDS_BETWEEN_LINES = 10.0
_TILE = 64  # pixels of a feature map's side in TensorBoard
_MAPS = 8
_OF_THE_RUN = (
  'learning_rate',
  'images_per_second',
  'input_wait',
  'compile_seconds',
  'epoch',
)


class Monitor:
  """Writes the rows of one run to its folder and to standard error."""

  def __init__(self, run: run_dir.RunDir, *, name: str, step: int, steps: int):
    """Goes on from a step; rows logged after it are dropped.

    Args:
      run: The claimed run folder.
      name: What the progress calls the stage.
      step: The step that the run continues from.
      steps: The step that it ends at.
    """
    rows = run.rewind_metrics(step)
    self._run = run
    self._name = name
    self._steps = steps
    self._before = rows[-1]['wall_seconds'] if rows else 0.0
    self._start = time.monotonic()
    self._last_line = self._start
    self._writer = tf.summary.create_file_writer(run.tensorboard)
    self._bar = (
      tqdm.tqdm(total=steps, initial=step, desc=name, file=sys.stderr)
      if sys.stderr.isatty()
      else None
    )
    if step:
      self._say(f'{name}: continues at step {step} of {steps}')
    else:
      self._describe(run.read('recipe.json'))

  @property
  def wall_seconds(self) -> float:
    """Returns the seconds of this run, over all the times it was continued."""
    return self._before + time.monotonic() - self._start

  def row(self, values: dict[str, Any]) -> None:
    """Logs one row: `step`, `epoch` and figures by name."""
    values = {**values, 'wall_seconds': round(self.wall_seconds, 3)}
    self._run.append_metrics(values)
    step = values['step']
    with self._writer.as_default(step=step):
      for name, value in values.items():
        if name not in ('step', 'wall_seconds'):
          tf.summary.scalar(_tag(name), value)
    self._progress(values)

  def pictures(self, step: int, image: np.ndarray) -> None:
    """Logs one picture, `[H, W, 3]` uint8: TensorBoard's `maps`, and a file."""
    self._run.write_picture(step, tf.io.encode_png(image).numpy())
    with self._writer.as_default(step=step):
      tf.summary.image(
        'maps',
        image[None],
        description='Rows: images. Columns: the input, '
        f'{_MAPS} maps of the teacher, the same {_MAPS} of the student '
        '(or of the reconstruction), on one scale per image, and the size of '
        'their difference on that scale.',
      )

  def close(self, result: dict[str, Any] | None = None) -> None:
    """Ends the log; a result goes to the HParams tab as test figures."""
    if result is not None:
      with self._writer.as_default(step=self._steps):
        for name in ('accuracy', 'loss'):
          if name in result:
            tf.summary.scalar(f'test/{name}', result[name])
    self._writer.close()
    if self._bar is not None:
      self._bar.close()

  def _describe(self, recipe):
    """Logs the recipe as text and to the HParams tab."""
    text = json.dumps(recipe, indent=2)
    trial = os.path.join(*self._run.path.split(os.sep)[-2:])
    with self._writer.as_default(step=0):
      tf.summary.text('recipe', f'```\n{text}\n```')
      hparams.hparams_config(
        hparams=[hparams.HParam(name) for name, _ in _flatten(recipe)],
        metrics=[
          hparams.Metric('test/accuracy', display_name='test accuracy'),
          hparams.Metric('validation/accuracy', display_name='validation'),
          hparams.Metric('train/loss', display_name='train loss'),
        ],
      )
      hparams.hparams(dict(_flatten(recipe)), trial_id=trial)

  def _progress(self, values):
    figures = {
      name: value
      for name, value in values.items()
      if name not in ('step', 'epoch', 'wall_seconds', 'learning_rate')
    }
    text = ', '.join(f'{k} {v:.4g}' for k, v in figures.items())
    if self._bar is not None:
      self._bar.update(values['step'] - self._bar.n)
      self._bar.set_postfix_str(text)
      return
    now = time.monotonic()
    ends = values['step'] == self._steps
    if ends or now - self._last_line >= _SECONDS_BETWEEN_LINES:
      self._last_line = now
      self._say(
        f'{self._name}: step {values["step"]}/{self._steps}, '
        f'epoch {values["epoch"]:.2f}, {text}'
      )

  def _say(self, line):
    if self._bar is not None:
      self._bar.write(line, file=sys.stderr)
    else:
      print(line, file=sys.stderr, flush=True)


def mosaic(
  images: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
  """Returns images, two kinds of maps and their differences side by side.

  Args:
    images: `[N, H, W, 1 or 3]` uint8.
    first: The teacher's maps, `[N, h, w, C]`.
    second: Those to compare, of the same shape.

  Returns:
    `[N * tile, (1 + 3 * maps) * tile, 3]` uint8, the first channels of each.
  """
  rows = []
  for image, *pair in zip(images, first, second, strict=True):
    maps: list[np.ndarray] = [each[..., :_MAPS] for each in pair]
    # Factors differ in norm; the loss compares them at norm 1.
    maps = [m / max(np.linalg.norm(m), 1e-12) for m in maps]
    low = min(m.min() for m in maps)
    high = max(m.max() for m in maps)
    tiles = [_tile(np.broadcast_to(image, (*image.shape[:2], 3)))]
    for each in (*maps, low + np.abs(maps[0] - maps[1])):
      each = np.minimum(each, high)
      scaled = 255 * (each - low) / max(high - low, 1e-12)
      grey = scaled.astype(np.uint8)
      tiles += [
        _tile(np.repeat(grey[..., i : i + 1], 3, axis=-1))
        for i in range(grey.shape[-1])
      ]
    rows.append(np.concatenate(tiles, axis=1))
  return np.concatenate(rows, axis=0)


def _tile(image):
  """Returns an image at the tile's size, with a dark edge."""
  resized = tf.image.resize(image, (_TILE - 2, _TILE - 2), method='nearest')
  return np.pad(resized.numpy(), ((1, 1), (1, 1), (0, 0)))


def _tag(name: str) -> str:
  """Returns TensorBoard's tag: train/..., validation/..., and the rest."""
  head, _, tail = name.partition('_')
  if head in ('train', 'validation') and tail:
    return f'{head}/{tail}'
  if name in _OF_THE_RUN or name.startswith('gradient_'):
    return f'run/{name}'
  return f'train/{name}'


def _flatten(
  value: Mapping[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any]]:
  """Yields the leaves of nested dicts by dotted name; lists become text."""
  for key, inner in value.items():
    if isinstance(inner, dict):
      yield from _flatten(inner, f'{prefix}{key}.')
    else:
      plain = isinstance(inner, (bool, int, float, str))
      yield f'{prefix}{key}', inner if plain else str(inner)
