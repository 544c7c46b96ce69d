"""A given teacher on the data: what it sees, and how often it is right.

Where another preprocessing, resizing or order of classes would do clearly
better, that is named: a teacher given with the wrong one trains a bad student
without any error.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np
from scipy import optimize

from ft_tf import errors, findings, recipes, specs, teachers
from ft_tf.data import datasets, example_sets, image_ops, sampling
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import graph, onnx_layers

_JUDGED = 2000  # test images that the teacher is measured on
_TRIED = 500  # of these, for each other preprocessing
_BETTER = 0.05  # accuracy by which another preprocessing must be better
_PER_CLASS = 20  # images that an order of classes is guessed from
_UNSCALED = 20.0  # what a first layer hardly ever sees on purpose
_NAMED = 10  # classes
_PREPROCESSING = ('none', '0..1', '-1..1')


def check_expectation(
  expected: float | None, given: teachers.Teacher | None
) -> None:
  """Raises `UsageError` if nothing can be held against an expectation.

  Args:
    expected: The accuracy (0..1) that the teacher is known to have, if any.
    given: The trained teacher, if one is given.
  """
  if expected is None:
    return
  if not 0 < expected <= 1:
    raise errors.UsageError(
      f'--expect_teacher_accuracy={expected}: give a share, such as 0.93'
    )
  if given is None:
    raise errors.UsageError(
      '--expect_teacher_accuracy is of a trained teacher: give --teacher, a '
      '.keras or .onnx file'
    )


def check(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  given: teachers.Teacher,
  expected: float | None,
) -> Iterator[findings.Finding]:
  """Yields what is found of a given teacher.

  Args:
    recipe: What is to be run.
    dataset: The images; 2,000 test images at most are looked at.
    given: The teacher.
    expected: The accuracy (0..1) that it is known to have, if any.

  Raises:
    UsageError: it is below the expectation by more than two standard errors.
  """
  (logits,) = given.model.outputs
  yield findings.Finding(
    'teacher',
    f'{teachers.source_file(recipe.teacher)}, '
    f'{specs.count_parameters(given.model):,} parameters; logits: the output '
    f'of {graph.producer(logits).operation.name} '
    f'(--teacher_outputs={recipe.teacher.teacher_outputs})',
    '--teacher, --teacher_outputs',
  )
  chosen = sampling.sample_positions(dataset.test, _JUDGED)
  # A whole split is not computed again when the teacher is tested on it.
  test = dataset.test
  if len(chosen) < len(test):
    test = test.take(chosen)
  yield findings.Finding(
    'values in the teacher',
    values_of_first_layer(given.model, test),
    '--preprocessing',
  )
  outputs = given.logits(test)
  accuracy = float((outputs.argmax(axis=1) == test.labels).mean())
  hints = [*_hint_at_preprocessing(recipe, dataset, given, chosen)]
  if not hints:
    hints = [
      *_hint_at_order(outputs, test.labels, accuracy, dataset.label_names)
    ]
  measured = f'{100 * accuracy:.2f} % of {len(test):,} test images'
  error = math.sqrt(max(accuracy * (1 - accuracy), 1e-9) / len(test))
  if expected is not None and accuracy < expected - 2 * error:
    raise errors.UsageError(
      '; '.join(
        [
          f"the teacher's accuracy is {measured}, not {100 * expected:.2f} %",
          *hints,
        ]
      )
      + ': give the --preprocessing and --resizing it was trained with, the '
      'data set with its classes in its order, or another '
      '--expect_teacher_accuracy'
    )
  yield findings.Finding(
    'teacher accuracy',
    '; '.join([measured, *hints]),
    '--preprocessing, --resizing, --expect_teacher_accuracy',
  )


def values_of_first_layer(
  model: keras.Model, examples: example_sets.AnyExamples
) -> str:
  """Returns what the first layer with a kernel is given, in words.

  Args:
    model: From raw images on, flat.
    examples: The images, of which 500 at most are looked at.
  """
  tensor = _input_of_first_kernel(model)
  if tensor is None:
    return 'its layers cannot be looked into'
  first = keras.Model(model.inputs[0], tensor)
  sample = sampling.sample(examples, _TRIED).images[:]
  values = np.asarray(first(sample, training=False), np.float32)
  unscaled = np.abs(values).max() > _UNSCALED
  return (
    f'the first layer sees {values.min():.3g} to {values.max():.3g}, mean '
    f'{values.mean():.3g}, std {values.std():.3g}'
    + ', which looks unscaled'
    * bool(unscaled)
  )


def _input_of_first_kernel(model: keras.Model) -> keras.KerasTensor | None:
  for call in graph.calls(model):
    weights = getattr(call.operation, 'weights', ())
    if any(weight.name == 'kernel' for weight in weights):
      return call.inputs[0]
    if isinstance(call.operation, onnx_layers.OnnxGraph):
      # One that takes bytes scales them inside, where nothing can be seen.
      return None if call.operation.takes_bytes else call.inputs[0]
  return None


def _hint_at_preprocessing(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  given: teachers.Teacher,
  chosen: np.ndarray,
) -> Iterator[str]:
  """Yields the preprocessing and resizing that the teacher does better with.

  First every preprocessing is tried, then with the best one the other resizing:
  there is one hint, or none.

  Args:
    recipe: What is to be run.
    dataset: The images.
    given: The teacher.
    chosen: Positions of the test images that the teacher is measured on.
  """
  settings, resizing = recipe.teacher, recipe.data.resizing
  few = chosen[:_TRIED]  # Every prefix of a sample has all classes.
  chance = 2 * math.sqrt(0.25 / len(few))  # two standard errors at most

  def accuracy(preprocessing, data):
    model, _ = teachers.fit(
      dataclasses.replace(settings, preprocessing=preprocessing),
      dataset,
      given.original,
    )
    predict = predictors.KerasPredictor(model, given=given.given_as)
    examples = data.test.take(few)
    outputs = metrics.logits(predict, examples.images)
    return float((outputs.argmax(axis=1) == examples.labels).mean())

  def clearly_better(one, other):
    least = 1.5 / len(dataset.label_names)
    return one > max(other + max(_BETTER, chance), least)

  best, most = settings.preprocessing, accuracy(settings.preprocessing, dataset)
  rgb = ('imagenet', 'caffe') * (dataset.image_shape[-1] == 3)
  accuracies = {
    kind: accuracy(kind, dataset)
    for kind in (*_PREPROCESSING, *rgb)
    if kind != settings.preprocessing
  }
  kind = max(accuracies, key=lambda kind: accuracies[kind])
  better_flags, given_flags = [], []
  if clearly_better(accuracies[kind], most):
    best, most = kind, accuracies[kind]
    better_flags.append(f'--preprocessing={best}')
    given_flags.append(f'--preprocessing={settings.preprocessing}')
  resized = dataset.resized_otherwise()
  if resized is not None:
    other_accuracy = accuracy(best, resized)
    if clearly_better(other_accuracy, most):
      most = other_accuracy
      crops = resizing == image_ops.STRETCH
      better_flags.append(
        '--resizing=crop --pad=0'
        if crops
        else f'--resizing={image_ops.STRETCH}'
      )
      given_flags.append(f'--resizing={resizing}')
  if better_flags:
    yield (
      f'its accuracy is {100 * most:.2f} % with {" ".join(better_flags)}, so '
      f'{" and ".join(given_flags)} '
      f'{"look" if len(given_flags) > 1 else "looks"} wrong'
    )


def _hint_at_order(
  outputs: np.ndarray,
  labels: np.ndarray,
  accuracy: float,
  names: Sequence[str],
) -> Iterator[str]:
  """Yields the order of classes that fits the teacher's outputs clearly better.

  It is the assignment of outputs to classes with the most right answers.
  """
  classes = len(names)
  if len(labels) < _PER_CLASS * classes:
    return
  counts = np.zeros((classes, classes))  # [output, label]
  np.add.at(counts, (outputs.argmax(axis=1), labels), 1)
  rows, columns = optimize.linear_sum_assignment(-counts)
  best = counts[rows, columns].sum() / len(labels)
  if best > accuracy + 2 * _BETTER and best > 2 * accuracy:
    order = ', '.join(names[c] for c in columns[:_NAMED])
    yield (
      f'its accuracy would be {100 * best:.2f} % if its outputs meant {order}'
      f'{", ..." if classes > _NAMED else ""}, so its classes seem to be in '
      'another order'
    )
