"""What a run leaves for TensorBoard: scalars, maps and the HParams tab."""

import contextlib
import hashlib
import json
import os
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from ft_tf import catalogue, recipe_flags, recipes, run_dir
from ft_tf.training import event_files

_OF_THE_RUN = (
  'learning_rate',
  'images_per_second',
  'input_wait',
  'compile_seconds',
  'epoch',
)
# Accuracies and losses come first in TensorBoard, which sorts by name; those of
# training, validation and test stand together.
_TAGS = {
  'loss': 'loss/train',
  'train_accuracy': 'accuracy/train',
  'validation_accuracy': 'accuracy/validation',
  'validation_cross_entropy': 'loss/validation',
  'validation_reconstruction': 'loss/validation',
}


class Log:
  """The event file of one run."""

  def __init__(self, run: run_dir.RunDir, step: int = 0):
    """Opens a file of its own; those of earlier calls stay up to a step.

    Args:
      run: The claimed folder.
      step: The step that the run continues from; what was logged after it is
        logged again.
    """
    self._run = run
    self.continued = event_files.cut(run.tensorboard, step)
    """Whether something that was logged before stays."""
    self._writer = tf.summary.create_file_writer(run.tensorboard)

  def describe(self, method: str) -> None:
    """Logs the recipe as text, and what differs in it to the HParams tab.

    There is no list of columns: TensorBoard takes it from one run alone, while
    without a list it shows the numbers of all runs.

    Args:
      method: As of `differing_numbers`.
    """
    recipe = self._run.read('recipe.json')
    with self._writer.as_default(step=0):
      text = json.dumps(recipe, indent=2)
      tf.summary.text('recipe', f'```\n{text}\n```')
      hparams.hparams(
        differing_numbers(recipe, method), trial_id=trial_name(self._run.path)
      )

  def row(self, values: dict[str, Any]) -> None:
    """Logs a row of metrics."""
    with self._writer.as_default(step=values['step']):
      for name, value in values.items():
        if name not in ('step', 'wall_seconds'):
          tf.summary.scalar(_tag(name), value)

  def maps(self, step: int, picture: np.ndarray) -> None:
    """Logs a picture of feature maps, `[H, W, 3]` uint8."""
    with self._writer.as_default(step=step):
      tf.summary.image(
        'maps',
        picture[None],
        description='For each image: maps of the teacher, the same maps of '
        'the student (or of the reconstruction), and the size of their '
        'difference, on one scale of grey.',
      )

  def close(self, step: int, result: dict[str, Any] | None) -> None:
    """Logs a result's test figures, and closes the file."""
    with self._writer.as_default(step=step):
      for name, tag in zip(('accuracy', 'loss'), event_files.TEST, strict=True):
        if result and name in result:
          tf.summary.scalar(tag, result[name])
    self._writer.close()


def trial_name(path: str) -> str:
  """Returns the name of a run's row in the HParams tab.

  TensorBoard merges rows of one name, so that the digest tells apart the runs
  of two workdirs whose last folders are called alike. It cuts long names short
  at their end, so that the run's own folder comes first.
  """
  path = os.path.abspath(path)
  folder, name = os.path.split(path)
  digest = hashlib.sha256(path.encode()).hexdigest()
  return f'{name} {os.path.basename(folder)} {digest[:6]}'


def differing_numbers(identity: dict[str, Any], method: str) -> dict[str, Any]:
  """Returns what makes a run: stage, method, seed, and numbers of its own.

  Args:
    identity: The content of a run's `recipe.json`.
    method: What the result calls the method. The numbers of a sweep, as in
      'ft,beta=20', are there for every arm, also where a recipe has them.

  Returns:
    `recipe`, the recipe of the catalogue that the run differs least from, and
    by their flags the numbers that differ from it.
  """
  numbers = {
    leaf.flag: (leaf, value)
    for leaf in recipe_flags.leaves()
    if (value := _value(identity, leaf.path)) is not None
  }
  for flag in ('seed', 'method'):
    numbers.pop(flag, None)
  differing = {
    name: {
      flag: value
      for flag, (leaf, value) in numbers.items()
      if value != _as_json(leaf.value(recipe)) and not _chosen(leaf, recipe)
    }
    for name, recipe in ((n, make()) for n, make in catalogue.RECIPES.items())
  }
  nearest = min(differing, key=lambda name: len(differing[name]))
  _, *point = method.split(',')
  shown = {
    'recipe': nearest,
    'stage': identity.get('stage', ''),
    'method': method,
    'seed': identity.get('seed', 0),
    **differing[nearest],
    **dict(each.split('=', 1) for each in point),
  }
  return {flag: _plain(value) for flag, value in shown.items()}


def _plain(value: Any) -> bool | int | float | str:
  """Returns a value that the HParams tab can show; numbers in texts too."""
  if isinstance(value, str):
    with contextlib.suppress(ValueError):
      return float(value)
  plain = isinstance(value, (bool, int, float, str))
  return value if plain else str(value)


def _chosen(leaf: recipe_flags.Leaf, recipe: recipes.Recipe) -> bool:
  """Tells whether a recipe leaves a number to the machine."""
  return leaf.flag == 'precision' and recipe.precision == recipes.AUTO


def _value(identity: dict[str, Any], path: str) -> Any:
  """Returns the value at a dotted path; None if there is none."""
  value: Any = identity
  for name in path.split('.'):
    value = value.get(name) if isinstance(value, dict) else None
  return value


def _as_json(value: Any) -> Any:
  """Returns a value as it is read from JSON: tuples are lists."""
  return json.loads(json.dumps(value))


def _tag(name: str) -> str:
  """Returns the tag of a figure, by which TensorBoard groups and sorts."""
  if name in _TAGS:
    return _TAGS[name]
  head, _, tail = name.partition('_')
  if head in ('train', 'validation') and tail:
    return f'{head}/{tail}'
  if name in _OF_THE_RUN or name.startswith('gradient_'):
    return f'run/{name}'
  return f'train/{name}'
