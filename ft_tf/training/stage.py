"""The skeleton of a stage: teacher, paraphraser and student run by it alike.

What a run does, in this order; a run that was cut off does it again and passes
over what is done:

  1. Check devices, folder and data. Nothing has been written so far.
  2. Return the result if the folder holds a complete run of this identity.
  3. Seed, then build the networks under the strategy: whatever does not fit
     shows here, and one seed gives the same first weights.
  4. Claim the folder: from here on it is this run's, and no other process's.
  5. Prepare: the optimizer, the compiled steps, whatever is measured first.
  6. Restore the newest checkpoint over the first weights, and loop from its
     step to the last (`loop.run`).
  7. Score on the test split, once.
  8. Write `model.keras`, then `result.json`, which marks the run complete.
"""

import abc
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import recipes, run_dir, specs, storage, teachers
from ft_tf.data import datasets, example_sets, sampling
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import archives, model_files
from ft_tf.progress import reporter
from ft_tf.training import cluster, loop, memory, precision, space
from ft_tf.training import strategy as strategies

_OF_STUDENT = (
  'before_activation',
  'class_weights',
  'factor_form',
  'new_head',
  'teacher_layer',
  'student_layer',
)
# Of the recipe's own numbers, those that a stage reads besides seed, batch norm
# and precision.
_OWN_NUMBERS = {
  'teacher': ('class_weights', 'new_head'),
  'paraphraser': ('before_activation', 'factor_form', 'teacher_layer'),
  'student': _OF_STUDENT,
  'qat': _OF_STUDENT,
}
_SHOWN = 4  # images whose maps TensorBoard shows


class Stage(abc.ABC):
  """One network's training, from its parts to its result.

  Attributes:
    recipe: Its numbers, with the precision settled.
    dataset: The images.
    method: What the result calls the method.
    name: What progress calls the run where no plan names it.
    model: What the run leaves, once it is built.
  """

  recipe: recipes.Recipe
  dataset: datasets.Dataset
  method: str
  name: str
  model: keras.Model

  @abc.abstractmethod
  def identity(self) -> dict[str, Any]:
    """Returns what decides the outcome, but for the images; see `identity`."""

  @abc.abstractmethod
  def build(self, strategy: tf.distribute.Strategy) -> None:
    """Builds the networks under the strategy; the seed is set.

    Raises:
      UsageError: parts do not fit each other. Nothing has been written.
    """

  def trained(self) -> list[keras.Model]:
    """Returns the models that are trained, built; `model` is one of them."""
    return [self.model]

  @abc.abstractmethod
  def prepare(
    self,
    run: run_dir.RunDir,
    strategy: tf.distribute.Strategy,
    options: loop.Options,
    part: reporter.Running,
  ) -> loop.Training:
    """Returns what the loop needs; the folder is claimed."""

  @abc.abstractmethod
  def score(self, run: run_dir.RunDir) -> dict[str, Any]:
    """Returns the figures of the test split after the last epoch."""


def run_stage(
  stage: Stage,
  *,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  progress: reporter.Progress | None = None,
) -> dict[str, Any]:
  """Trains a stage's network, or continues, or returns what is there.

  The order is that of the module's docstring.

  Args:
    stage: The stage.
    run: Its folder.
    strategy: The devices.
    options: Intervals.
    progress: That of the command that the run is a part of; None: the run is
      the whole of it.

  Returns:
    The result, as in `result.json`.

  Raises:
    UsageError: the folder holds another run, or a part does not fit.
    TrainingError: a loss term is not finite, memory ran out, or another worker
      is gone.
  """
  recipe, dataset = stage.recipe, stage.dataset
  identity = stage.identity()
  if complete := check(run, identity, strategy, recipe, dataset):
    return complete
  progress = progress or reporter.Progress(mode=options.progress)
  with (
    progress.part(run.path, stage.name) as part,
    cluster.explained(),
    memory.explained(recipe, run.path),
  ):
    return _run_part(stage, identity, run, strategy, options, part)


def _run_part(
  stage: Stage,
  identity: dict[str, Any],
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  part: reporter.Running,
) -> dict[str, Any]:
  """Does what `run_stage` does with a run that is not complete."""
  recipe, dataset = stage.recipe, stage.dataset
  part.say_once(precision.describe(recipe))
  if options.deterministic:
    tf.config.experimental.enable_op_determinism()
  keras.utils.set_random_seed(recipe.seed)
  stage.build(strategy)
  weights = space.weigh(*stage.trained())
  of_stage = space.of_training(weights, getattr(recipe, identity['stage']))
  space.check({run.path: space.total([of_stage])})
  memory.check(recipe, strategy, dataset.image_shape, stage.trained())
  with claim(run, identity, strategy, recipe, dataset) as complete:
    if complete:
      return complete
    monitor = loop.run(
      stage.prepare(run, strategy, options, part),
      data=recipe.data,
      seed=recipe.seed,
      run=run,
      strategy=strategy,
      options=options,
      part=part,
    )
    part.status('testing')
    scores = stage.score(run)
    _keep(stage.model, run)
    last_row = run.metrics()[-1]
    result = {
      'method': stage.method,
      'seed': recipe.seed,
      **scores,
      **{k: v for k, v in last_row.items() if k.startswith('validation_')},
      'parameters': specs.count_parameters(stage.model),
      'steps': last_row['step'],
      'wall_seconds': round(monitor.wall_seconds, 3),
    }
    monitor.close(result)
    run.write(run_dir.RESULT, result)
    part.end(_describe_scores(scores))
    return result


def _describe_scores(scores: dict[str, Any]) -> str:
  """Returns the figure of the test split that a run is judged by."""
  if 'accuracy' in scores:
    return f'test accuracy {100 * scores["accuracy"]:.2f} %'
  return f'test reconstruction {scores["reconstruction"]:.4g}'


def _keep(model: keras.Model, run: run_dir.RunDir) -> None:
  """Writes a run's model, unless its file has these very weights.

  So it is if the result alone was lost. A file of an earlier version would be
  another then, and the runs that learned from it would not be its own.
  """
  if archives.is_whole(run.model):
    there = model_files.load(run.model).get_weights()
    weights = model.get_weights()
    if len(there) == len(weights) and all(map(np.array_equal, there, weights)):
      return
  save(run.model, model)


def has_lost(run: run_dir.RunDir) -> bool:
  """Tells whether a run that was complete has no result, or a damaged model.

  A model that is not there was deleted to save space.
  """
  damaged = os.path.lexists(run.model) and not archives.is_whole(run.model)
  return damaged or run.read(run_dir.RESULT) is None


def _result(run: run_dir.RunDir, identity: dict[str, Any]) -> Any:
  """Returns the result of a complete run; None: there is work left.

  A model's file that is damaged is written again if the run can do so, from its
  last checkpoint or the given file.
  """
  result = run.read(run_dir.RESULT)
  if result is None or 'stage' not in identity or archives.is_whole(run.model):
    return result
  names = os.listdir(run.checkpoints) if os.path.isdir(run.checkpoints) else []
  again = not result.get('steps') or any(n.endswith('.index') for n in names)
  return None if again else result


def check(
  run: run_dir.RunDir,
  recipe_json: dict[str, Any],
  strategy: tf.distribute.Strategy,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  addable: Iterable[str] = (),
) -> dict[str, Any] | None:
  """Returns the result of a complete run; checks what a new one would need.

  Args:
    run: The folder; nothing is written.
    recipe_json: The run's identity, but for the images.
    strategy: The devices.
    recipe: Whose batch they split.
    dataset: The images, which are read.
    addable: As of `run_dir.RunDir.claim`.

  Raises:
    UsageError: devices, folder or data do not serve.
  """
  strategies.check_batch(strategy, recipe.data.batch_size)
  run.check(recipe_json | images_identity(dataset), addable=addable)
  dataset.read()
  return _result(run, recipe_json)


@contextlib.contextmanager
def claim(
  run: run_dir.RunDir,
  recipe_json: dict[str, Any],
  strategy: tf.distribute.Strategy,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  addable: Iterable[str] = (),
) -> Iterator[dict[str, Any] | None]:
  """Holds a run's folder; yields its result if it is complete.

  Args and errors are those of `check`, which comes first: whatever can be wrong
  with devices and data shows before the folder is made.
  """
  check(run, recipe_json, strategy, recipe, dataset, addable)
  with run.held(recipe_json | images_identity(dataset), addable=addable):
    # Again: another process may have completed it before the lock was ours.
    complete = _result(run, recipe_json)
    is_there = os.path.lexists(run.model)
    if complete is None and is_there and not archives.is_whole(run.model):
      storage.say_damaged(run.model, 'it is written again')
    yield complete


def identity(
  name: str, recipe: recipes.Recipe, **sha256: str
) -> dict[str, Any]:
  """Returns what decides a stage's outcome, as its `recipe.json`.

  Args:
    name: 'teacher', 'paraphraser', 'student' or 'qat'.
    recipe: The recipe; other stages' numbers are left out.
    **sha256: The digests of the files that the stage reads, by their names.
  """
  recorded = recipes.identity(recipe)
  return {
    'stage': name,
    'seed': recipe.seed,
    'sync_batch_norm': recipe.sync_batch_norm,
    'precision': recipe.precision,
    'data': recorded['data'],
    **{
      field: recorded[field]
      for field in _OWN_NUMBERS[name]
      if field in recorded
    },
    name: recorded.get(name) or dataclasses.asdict(getattr(recipe, name)),
    **{f'{file}_sha256': digest for file, digest in sha256.items()},
  }


def images_identity(dataset: datasets.Dataset) -> dict[str, str]:
  """Returns what of the images decides an outcome beyond their names."""
  if not dataset.fingerprint:
    return {}
  return {'images_sha256': dataset.fingerprint}


def models_identity(recipe: recipes.Recipe) -> dict[str, str]:
  """Returns the digests of the files that teacher and student start from."""
  files = {
    'teacher_sha256': teachers.source_file(recipe.teacher),
    'student_sha256': specs.student_file(recipe.student),
  }
  return {name: run_dir.digest(path) for name, path in files.items() if path}


def validation(
  model: keras.Model, examples: example_sets.AnyExamples
) -> Callable[[], dict[str, float]]:
  """Returns a function that scores a model on the validation images."""
  if not len(examples):
    return dict
  predict = predictors.KerasPredictor(model)

  def evaluate():
    scores = metrics.evaluate(predict, examples)
    return {
      'validation_accuracy': scores['accuracy'],
      'validation_cross_entropy': scores['loss'],
    }

  return evaluate


def score_test_split(
  run: run_dir.RunDir, outputs: np.ndarray, dataset: datasets.Dataset
) -> dict[str, Any]:
  """Returns a network's figures on the test split; writes its predictions.

  Args:
    run: The network's run, which gets `predictions.json`.
    outputs: The network's logits for the test split, `[N, classes]`.
    dataset: The images.
  """
  labels = dataset.test.labels
  run.write(
    run_dir.PREDICTIONS,
    metrics.summarize_predictions(outputs, labels, dataset.label_names),
    indent=None,
  )
  return metrics.test_scores(outputs, labels, dataset.label_names)


def shown_images(dataset: datasets.Dataset) -> np.ndarray:
  """Returns the images whose maps are shown, `[N, H, W, C]` uint8."""
  examples = dataset.validation if len(dataset.validation) else dataset.train
  return sampling.sample(examples, _SHOWN).images[:]


def save(path: str, model: keras.Model) -> None:
  """Writes a `.keras` file, whole or not at all."""
  archives.save(path, model)
