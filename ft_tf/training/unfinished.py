"""The student of a run that was interrupted, out of its newest checkpoint."""

import contextlib
import dataclasses
import os
from typing import Any

import keras
import tensorflow as tf

from ft_tf import errors, json_files, paths, recipes, run_dir, specs
from ft_tf.data import datasets
from ft_tf.training import averaging, stage

_FILE = 'unfinished-{}.keras'  # with the step


@dataclasses.dataclass(frozen=True)
class Unfinished:
  """A student whose training has not ended.

  Attributes:
    model: Its `.keras` file.
    run: The folder of its run.
    step: The step of the checkpoint.
    epoch: How many epochs that is.
    epochs: How many the whole training has.
  """

  model: str
  run: str
  step: int
  epoch: float
  epochs: int

  def describe(self) -> str:
    """Returns in words that, and where, its training was interrupted."""
    return (
      f'{self.run}: training was not finished; this is its checkpoint at step '
      f'{self.step:,}, after {self.epoch:.2f} of {self.epochs} epochs'
    )

  def as_json(self, exported: str) -> dict[str, Any]:
    """Returns the same of the student in an export, as JSON.

    Args:
      exported: Its `.keras` file there.
    """
    known = {'model': exported, 'finished': False}
    return dataclasses.asdict(self) | known


@json_files.explains
def find_run(path: str) -> run_dir.RunDir | None:
  """Returns a student's run in a folder; None if the folder has no run.

  Args:
    path: The folder of the run, or of a compression, whose student is taken.

  Raises:
    UsageError: it is a run of something else.
  """
  run = run_dir.RunDir(path)
  recipe = run.read('recipe.json')
  if recipe is None:
    return None
  if 'stage' not in recipe and run.child('student').begun():
    run = run.child('student')
    recipe = run.read('recipe.json')
  method = (recipe.get('student') or {}).get('method')
  if recipe.get('stage') != 'student' or method == recipes.LINEAR_HEAD:
    raise errors.UsageError(
      f'--model={path}: the run in this folder does not train all weights of a '
      'student: give a .keras file, or the folder of a student'
    )
  return run


def restore(
  run: run_dir.RunDir,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  folder: str,
) -> Unfinished:
  """Writes the student of a run's newest checkpoint to a file of its own.

  Args:
    run: The student's, as of `find_run`. It may be at work, and another's:
      nothing is written to it.
    recipe: What the run recorded.
    dataset: The images, as the teacher sees them.
    folder: Where the file is put. Its bytes are those of the weights alone.

  Raises:
    UsageError: there is no checkpoint that can be read, or it is not of the
      student that the recipe builds for these images.
  """
  paths.check_tree(run.path)
  state = None
  with contextlib.suppress(Exception):  # It is not text, or not its format.
    state = tf.train.get_checkpoint_state(run.checkpoints)
  names = list(state.all_model_checkpoint_paths) if state else []
  if not names:
    raise errors.UsageError(
      f'{run.path} has neither a model.keras nor a checkpoint: let its command '
      'train until the first checkpoint (--checkpoint_minutes)'
    )
  student = specs.build_student(recipe, dataset)
  for path in reversed(names):
    values = _read(path, student, recipe.student.ema)
    if values is not None:
      break
  else:
    raise errors.UsageError(
      f'no checkpoint in {run.checkpoints} is of the student that '
      f'{run.path}/recipe.json has for these images: give the --dataset of its '
      'run'
    )
  step, epoch = values
  model = os.path.join(folder, _FILE.format(step))
  stage.save(model, student)
  return Unfinished(model, run.path, step, epoch, recipe.student.epochs)


def _read(
  path: str, student: keras.Model, ema: float
) -> tuple[int, float] | None:
  """Puts a checkpoint's weights into a student.

  Args:
    path: Of the checkpoint.
    student: Built.
    ema: As of `recipes.Classifier.ema`; an average is what gets the weights.

  Returns:
    Step and epoch; None if it cannot be read, or is of another network.
  """
  # The run's average is of the student's weights first, so that this one is
  # restored from the beginning of its list.
  average = averaging.make([student], ema)
  parts = {} if average is None else {'average': average.state}
  step = tf.Variable(0, dtype=tf.int64)
  epoch = tf.Variable(0.0, dtype=tf.float64)
  checkpoint = tf.train.Checkpoint(
    step=step, epoch=epoch, student=student, **parts
  )
  try:
    checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
  except (AssertionError, ValueError, tf.errors.OpError):
    return None
  if average is not None:
    average.put()
  return int(step), float(epoch)
