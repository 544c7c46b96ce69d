"""What the three stages share around their steps."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import errors, evaluation, recipes, run_dir
from ft_tf.data import datasets, sampling
from ft_tf.models import layers, pretrained, standard, zoo
from ft_tf.training import monitor, precision, strategy

# Of the recipe's own numbers, those that tell what a stage sees of networks.
_LAYERS = {
  'teacher': (),
  'paraphraser': ('before_activation', 'teacher_layer'),
  'student': ('before_activation', 'teacher_layer', 'student_layer'),
}
_LOOKED_AT = 16  # images that tell probabilities from logits
PICTURED = 4  # images shown with their maps in TensorBoard


def identity(stage: str, recipe: recipes.Recipe, **inputs) -> dict[str, Any]:
  """Returns what decides a stage's outcome, as its `recipe.json`.

  Args:
    stage: 'teacher', 'paraphraser' or 'student'.
    recipe: The recipe; other stages' numbers are left out.
    **inputs: Files that the stage reads, by name; their digests count.
  """
  return {
    'stage': stage,
    'seed': recipe.seed,
    'sync_batch_norm': recipe.sync_batch_norm,
    'precision': recipe.precision,
    'data': dataclasses.asdict(recipe.data),
    **{name: getattr(recipe, name) for name in _LAYERS[stage]},
    stage: dataclasses.asdict(getattr(recipe, stage)),
    **{f'{name}_sha256': run_dir.digest(path) for name, path in inputs.items()},
  }


def settle_statistics(
  recipe: recipes.Recipe, dataset: datasets.Dataset
) -> recipes.Recipe:
  """Returns the recipe with a mean and std for the images' channels.

  Its own, if they are; otherwise those of the training images, which is
  printed.
  """
  channels = dataset.image_shape[-1]
  if len(recipe.data.mean) == channels:
    return recipe
  mean, std = datasets.statistics(dataset.train)
  texts = (','.join(map(str, each)) for each in (mean, std))
  print(
    'mean and std: {} and {}, of the training images; the recipe has those of '
    '{} channels, the images have {}'.format(
      *texts, len(recipe.data.mean), channels
    ),
    file=sys.stderr,
    flush=True,
  )
  return recipes.override(recipe, {'mean': mean, 'std': std})


def spec(recipe: recipes.Recipe, dataset: datasets.Dataset) -> layers.Spec:
  """Returns what a fresh network needs to know.

  Raises:
    UsageError: the recipe's mean and std are for another number of channels.
  """
  channels = dataset.image_shape[-1]
  if len(recipe.data.mean) != channels:
    mean, std = (
      ','.join(map(str, each)) for each in datasets.statistics(dataset.train)
    )
    raise errors.UsageError(
      f"{recipe.data.dataset} has {channels} channels, the recipe's mean and "
      f'std {len(recipe.data.mean)}: give one value per channel, of images in '
      f'[0, 1], such as --mean={mean} --std={std}, which these have'
    )
  return layers.Spec(
    image_shape=dataset.image_shape,
    classes=len(dataset.label_names),
    mean=recipe.data.mean,
    std=recipe.data.std,
    sync_batch_norm=recipe.sync_batch_norm,
    precision=recipe.precision,
  )


def as_student_sees(
  recipe: recipes.Recipe, dataset: datasets.Dataset
) -> datasets.Dataset:
  """Returns the data set at the student's image size.

  Raises:
    UsageError: its images are smaller than that.
  """
  return dataset.at(recipe.student.student_image_size)


def build_student(
  recipe: recipes.Recipe, dataset: datasets.Dataset
) -> keras.Model:
  """Returns the student to train, for the images of its own size.

  Args:
    recipe: Names it.
    dataset: The images as the teacher sees them.

  Raises:
    UsageError: there is no such network, or it does not fit the images.
  """
  own = as_student_sees(recipe, dataset)
  return zoo.build(recipe.student.model, spec(recipe, own))


def load_teacher(path: str, dataset: datasets.Dataset) -> keras.Model:
  """Returns a trained teacher, from raw images to logits, no models in it.

  Raises:
    UsageError: it is not of the data.
  """
  return standard.standard(
    _load(path, dataset), image_shape=dataset.image_shape
  )[0]


def teacher_file(its: recipes.Teacher) -> str:
  """Returns the file that the teacher comes or starts from; '' if none."""
  return its.model if zoo.is_file(its.model) else its.teacher_weights


def is_given(its: recipes.Teacher, dataset: datasets.Dataset) -> bool:
  """Tells whether the teacher is trained: a file, or weights of the classes.

  Raises:
    UsageError: there are weights that are not for the teacher.
  """
  if zoo.is_file(its.model):
    if its.teacher_weights:
      raise errors.UsageError(
        f'--teacher={its.model} has its weights: leave out --teacher_weights, '
        'or give the name of a network'
      )
    return True
  if not its.teacher_weights:
    return False
  classes = pretrained.classes_of(
    its.model, _shape_alone(dataset), its.teacher_weights
  )
  return classes == len(dataset.label_names)


def build_teacher(recipe: recipes.Recipe, spec: layers.Spec) -> keras.Model:
  """Returns the teacher to train: fresh, or with the weights it starts from."""
  return zoo.build(
    recipe.teacher.model,
    spec,
    weights=recipe.teacher.teacher_weights,
    preprocessing=recipe.teacher.preprocessing,
  )


def _shape_alone(dataset) -> layers.Spec:
  """Returns what a network with its own statistics needs to know."""
  return layers.Spec(
    image_shape=dataset.image_shape,
    classes=len(dataset.label_names),
    mean=(),
    std=(),
  )


def load_given_teacher(
  its: recipes.Teacher, dataset: datasets.Dataset
) -> tuple[keras.Model, bool]:
  """Returns the trained teacher that a user gives, likewise.

  Args:
    its: The file, or network and weights, and what the recipe says of them.
    dataset: The images.

  Returns:
    The teacher, and whether it is as its `.keras` file has it.

  Raises:
    UsageError: it is not of the data, gives values that are not finite, or
      gives probabilities and does not show that by a softmax at its end.
  """
  teacher, as_given = open_given_teacher(its, dataset)
  some = evaluation.logits(
    evaluation.KerasPredictor(teacher, given=f'--teacher={its.model}'),
    sampling.sample(dataset.train, _LOOKED_AT).images,
  )
  if not zoo.is_file(its.model) or its.teacher_outputs != 'auto':
    return teacher, as_given
  if standard.look_like_probabilities(some):
    raise errors.UsageError(
      f'--teacher={its.model} seems to give probabilities, and does not end in '
      'softmax or sigmoid: give --teacher_outputs=probabilities, or =logits if '
      'they are logits'
    )
  return teacher, as_given


def open_given_teacher(
  its: recipes.Teacher, dataset: datasets.Dataset
) -> tuple[keras.Model, bool]:
  """Returns the value of `load_given_teacher`; its outputs are not looked at.

  Raises:
    UsageError: it is not of the data.
  """
  path = its.model
  if not zoo.is_file(path):
    return _with_weights(its, dataset), False
  teacher, said = standard.standard(
    _load(path, dataset),
    outputs=its.teacher_outputs,
    preprocessing=its.preprocessing,
    image_shape=dataset.image_shape,
  )
  for line in said:
    print(f'teacher: {line}', file=sys.stderr, flush=True)
  return teacher, not said


def say_weights(its: recipes.Teacher, what: str) -> None:
  """Says in a line what is done with given weights, and what they see."""
  images = f'with --preprocessing={its.preprocessing}'
  if its.preprocessing == 'none':
    images = f'as {its.model} has them in keras.applications'
  print(
    f'teacher: {its.teacher_weights} {what}; images are normalised {images}',
    file=sys.stderr,
    flush=True,
  )


def _with_weights(its, dataset):
  say_weights(
    its,
    f'has a head of {len(dataset.label_names)} classes and is taken as trained',
  )
  return zoo.build(
    its.model,
    _shape_alone(dataset),
    weights=its.teacher_weights,
    preprocessing=its.preprocessing,
  )


def _load(path, dataset):
  teacher = zoo.load(path)
  zoo.check_fits(
    teacher,
    f'--teacher={path}',
    image_shape=dataset.image_shape,
    label_names=dataset.label_names,
    size='--image_size and --channels',
  )
  return teacher


def images_identity(dataset: datasets.Dataset) -> dict[str, str]:
  """Returns what of the images decides an outcome beside their names."""
  if not dataset.fingerprint:
    return {}
  return {'images_sha256': dataset.fingerprint}


@contextlib.contextmanager
def work(
  run: run_dir.RunDir,
  recipe_json: dict[str, Any],
  devices: tf.distribute.Strategy,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
) -> Iterator[dict[str, Any] | None]:
  """Holds a run folder while a stage works; yields its result if complete.

  Whatever can be wrong with devices and data shows before the folder is made.
  """
  strategy.check_batch(devices, recipe.data.batch_size)
  recipe_json = recipe_json | images_identity(dataset)
  run.check(recipe_json)
  dataset.read()
  run.claim(recipe_json)
  try:
    result = run.read('result.json')
    if result is None:
      precision.say(recipe)
    yield result
  finally:
    run.release()


def hits(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
  """Returns how many of the logits `[B, classes]` have the label on top."""
  right = tf.argmax(logits, axis=1, output_type=labels.dtype) == labels
  return tf.reduce_sum(tf.cast(right, tf.float32))


def validation(
  model: keras.Model, examples: datasets.Examples
) -> Callable[[], dict[str, float]]:
  """Returns a function that scores a model on the validation images."""
  if not len(examples):
    return dict
  predict = evaluation.KerasPredictor(model)

  def evaluate():
    scores = evaluation.evaluate(predict, examples)
    return {
      'validation_accuracy': scores['accuracy'],
      'validation_cross_entropy': scores['loss'],
    }

  return evaluate


def scores(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  """Returns a network's figures on the test split, of its logits."""
  return {
    **evaluation.score(outputs, labels),
    'calibration_error': evaluation.calibration_error(outputs, labels),
  }


def pictured(dataset: datasets.Dataset) -> np.ndarray:
  """Returns the images to show maps of, `[N, H, W, C]` uint8."""
  examples = dataset.validation if len(dataset.validation) else dataset.train
  return sampling.sample(examples, PICTURED).images[:]


def save(path: str, model: keras.Model) -> None:
  """Writes a `.keras` file, whole or not at all."""
  with run_dir.replacing(path) as temporary:
    model.save(temporary)


def finish(
  run: run_dir.RunDir,
  watch: monitor.Monitor,
  model: keras.Model,
  scores: dict[str, float],
  *,
  method: str,
  seed: int,
) -> dict[str, Any]:
  """Writes the model and then the result, which marks the run complete.

  Args:
    run: The run's folder.
    watch: The run's monitor; it is closed.
    model: What the run leaves.
    scores: Figures of the test split at the last epoch.
    method: The run's method.
    seed: The run's seed.

  Returns:
    The result as written.
  """
  save(run.model, model)
  rows = run.metrics()
  result = {
    'method': method,
    'seed': seed,
    **scores,
    **{k: v for k, v in rows[-1].items() if k.startswith('validation_')},
    'parameters': parameters(model),
    'steps': rows[-1]['step'],
    'wall_seconds': round(watch.wall_seconds, 3),
  }
  watch.close(result)
  run.write('result.json', result)
  return result


def parameters(model: keras.Model) -> int:
  """Returns the number of weights that training moves, frozen or not."""
  statistics = {'moving_mean', 'moving_variance'}
  return sum(
    int(np.prod(w.shape)) for w in model.weights if w.name not in statistics
  )
