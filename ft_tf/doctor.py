"""Everything looked at before an hour is spent: what fits, and what does not.

Each finding names the flag that changes it. Nothing is written.
"""

import dataclasses
import math
import os
import resource
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from scipy import optimize

from ft_tf import (
  arms,
  compression,
  definitions,
  errors,
  evaluation,
  recipes,
  rehearsal,
  specs,
  teachers,
)
from ft_tf import workshop as workshops
from ft_tf.data import datasets, example_sets, records, sampling
from ft_tf.export import budget
from ft_tf.methods import registry
from ft_tf.models import graph, taps
from ft_tf.training import precision

_JUDGED = 2000  # test images that a given teacher is measured on
_TRIED = 500  # of these, for each other preprocessing
_BETTER = 0.05  # accuracy by which another preprocessing must be better
_PER_CLASS = 20  # images that an order of classes is guessed from
_UNSCALED = 20.0  # what a first layer hardly ever sees on purpose
_NAMED = 10  # classes
_PREPROCESSING = ('none', '0..1', '-1..1')


@dataclasses.dataclass(frozen=True)
class Finding:
  """One thing that was looked at.

  Attributes:
    what: Such as 'teacher accuracy'.
    says: What was found, in words.
    flag: The flag that changes it.
  """

  what: str
  says: str
  flag: str

  def __str__(self) -> str:
    return f'{self.what}: {self.says} [{self.flag}]'


def check_expectation(
  expected: float | None, given: teachers.Teacher | None
) -> None:
  """Raises `UsageError` if nothing can be held against an expectation."""
  if expected is None:
    return
  if not 0 < expected <= 1:
    raise errors.UsageError(
      f'--expect_teacher_accuracy={expected}: give a share, such as 0.93'
    )
  if given is None:
    raise errors.UsageError(
      '--expect_teacher_accuracy is of a trained teacher: give --teacher, a '
      '.keras file'
    )


def examine(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  given: teachers.Teacher | None = None,
  expected: float | None = None,
) -> Iterator[Finding]:
  """Yields what is found of data, teacher, layers and student.

  A given teacher is measured on test images, 2,000 at most; for a teacher, that
  chooses nothing.

  Args:
    recipe: What is to be run.
    dataset: The images.
    given: The value of `teachers.resolve` for these; None: it is resolved here.
    expected: The accuracy (0..1) that a given teacher is known to have.

  Raises:
    UsageError: something does not fit, the student does not convert, or the
      teacher is below the expectation by more than two standard errors.
  """
  if given is None:
    given = teachers.resolve(recipe, dataset)
  check_expectation(expected, given)
  recipe = precision.settle(recipe)
  teacher_model = teachers.network(recipe, dataset, given)
  student_model = specs.build_student(recipe, dataset)
  recipe = compression.check_parts(
    recipe, dataset, teacher_model, student_model
  )
  yield from _of_data(recipe, dataset)
  if given is not None:
    yield from _of_given_teacher(recipe, dataset, given, expected)
  else:
    yield Finding(
      'teacher',
      f'{recipe.teacher.model}, to be trained for {recipe.teacher.epochs} '
      f'epochs, {specs.count_parameters(teacher_model):,} parameters',
      '--teacher',
    )
  yield from _of_layers(recipe, dataset, teacher_model, student_model)
  yield _of_student(recipe, specs.student_dataset(recipe, dataset))


def rehearse(
  recipe: recipes.Recipe,
  *,
  devices: tf.distribute.Strategy,
  workshop: workshops.Workshop,
  given: teachers.Teacher | None = None,
  seeds: int = 1,
  baseline: bool = False,
) -> Iterator[Finding]:
  """Yields the time of the stages, from a few real steps, and the memory.

  Args:
    recipe: What is to be run.
    devices: Those that are measured.
    workshop: As of `rehearsal.rehearse`.
    given: Likewise.
    seeds: As of `compression.compress`.
    baseline: Likewise.

  Raises:
    TrainingError: a stage fails.
  """
  methods = [recipe.student.method, *([recipes.SCRATCH] * baseline)]
  parts = rehearsal.rehearse(
    recipe,
    devices=devices,
    workshop=workshop,
    chosen=arms.make(dict.fromkeys(methods), {}),
    seeds=seeds,
    given=given,
  )
  for part in parts:
    name = part['part'].partition('/')[0].removesuffix('s')
    stage = name if name in ('teacher', 'paraphraser') else 'student'
    alone = ' alone' * (name == recipes.SCRATCH)
    seconds = part['images_per_epoch'] / part['images_per_second']
    yield Finding(
      f'time of the {stage}{alone}',
      f'{seconds:.1f} s per epoch at '
      f'{part["images_per_second"]:,.0f} images/s, '
      f'{part["seconds"] / 60:.1f} minutes in all'
      + f', of {part["runs"]} seeds'
      * (part['runs'] > 1),
      f'--{stage}_epochs',
    )
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  yield Finding(
    'memory',
    f'{peak / 2**30:.1f} GiB at most in these steps, of '
    f'{_memory() / 2**30:.1f} GiB here',
    '--batch_size',
  )


def _of_data(recipe, dataset) -> Iterator[Finding]:
  train, data = dataset.train, recipe.data
  more = len(dataset.every) - len(train)
  yield Finding(
    'images',
    f'{len(train):,} to train on, '
    + (f'{more:,} without labels beside them, ' if more else '')
    + f'{len(dataset.validation):,} to validate on, {len(dataset.test):,} to '
    f'test on, {_shape(dataset.image_shape)}, '
    + (
      'read from their files'
      if data.resizing == 'crop'
      else f'{_bytes(dataset) / 2**30:.2f} GiB in memory'
    ),
    '--dataset, --unlabeled, --image_size, --resizing',
  )
  some = sampling.sample(train, _TRIED).images[:]
  yield Finding(
    'values',
    f'{some.min()} to {some.max()}; of 0..1, mean and deviation '
    f'{_figures(*example_sets.statistics(train))}; the student normalises '
    f'by {_figures(data.mean, data.std)}',
    '--mean, --std',
  )
  counts = np.bincount(train.labels, minlength=len(dataset.label_names))
  names = dataset.label_names
  more = ', ...' if len(names) > _NAMED else ''
  yield Finding(
    'classes',
    f'{len(names)}, in this order: {", ".join(names[:_NAMED])}{more}; '
    f'{counts.min():,} to {counts.max():,} images each',
    '--dataset',
  )


def _of_given_teacher(recipe, dataset, given, expected) -> Iterator[Finding]:
  settings = recipe.teacher
  (y,) = given.model.outputs
  yield Finding(
    'teacher',
    f'{teachers.source_file(settings)}, '
    f'{specs.count_parameters(given.model):,} parameters; '
    f'its outputs are taken from {graph.producer(y).operation.name} as logits, '
    f'by {settings.teacher_outputs}',
    '--teacher, --teacher_outputs',
  )
  chosen = sampling.positions(dataset.test, _JUDGED)
  # A whole split is not computed again when the teacher is tested on it.
  test = dataset.test
  if len(chosen) < len(test):
    test = test.take(chosen)
  yield Finding(
    'values in the teacher', _seen(given.model, test), '--preprocessing'
  )
  outputs = given.logits(test)
  accuracy = float((outputs.argmax(axis=1) == test.labels).mean())
  hints = [*_other_preprocessing(recipe, dataset, given, chosen)]
  if not hints:
    names = dataset.label_names
    hints = [*_other_order(outputs, test.labels, accuracy, names)]
  measured = f'{100 * accuracy:.2f} % of {len(test):,} test images'
  error = math.sqrt(max(accuracy * (1 - accuracy), 1e-9) / len(test))
  if expected is not None and accuracy < expected - 2 * error:
    raise errors.UsageError(
      '; '.join(
        [f'the teacher has {measured}, not {100 * expected:.2f} %', *hints]
      )
      + ': give the --preprocessing and --resizing it was trained with, the '
      'data set with its classes in its order, or another '
      '--expect_teacher_accuracy'
    )
  yield Finding(
    'teacher accuracy',
    '; '.join([measured, *hints]),
    '--preprocessing, --resizing, --expect_teacher_accuracy',
  )


def _logits(model, examples, path) -> np.ndarray:
  predict = evaluation.KerasPredictor(model, given=f'--teacher={path}')
  return evaluation.logits(predict, examples.images)


def _seen(teacher, examples) -> str:
  """Returns what the teacher's first layer with a kernel is given."""
  tensor = _before_kernel(teacher)
  if tensor is None:
    return 'its layers cannot be looked into'
  first = keras.Model(teacher.inputs[0], tensor)
  some = sampling.sample(examples, _TRIED).images[:]
  values = np.float32(first(some, training=False))
  scaled = ', which looks unscaled' if np.abs(values).max() > _UNSCALED else ''
  return (
    f'its first layer sees {values.min():.3g} to {values.max():.3g}, mean '
    f'{values.mean():.3g}, deviation {values.std():.3g}{scaled}'
  )


def _before_kernel(model) -> keras.KerasTensor | None:
  """Returns what goes into the first layer that has a kernel."""
  for call in graph.calls(model):
    weights = getattr(call.operation, 'weights', ())
    if any(weight.name == 'kernel' for weight in weights):
      return call.inputs[0]
  return None


def _other_preprocessing(recipe, dataset, given, chosen) -> Iterator[str]:
  """Yields the preprocessing and resizing that a teacher does better with.

  First every preprocessing, then with the best one the other resizing: what is
  yielded is one hint, or none.

  Args:
    recipe: What is to be run.
    dataset: The images.
    given: The teacher.
    chosen: Positions of the test images that the teacher is measured on.
  """
  its, resizing = recipe.teacher, recipe.data.resizing
  few = chosen[:_TRIED]  # Every prefix of a sample has all classes.
  chance = 2 * math.sqrt(0.25 / len(few))  # two standard errors at most

  def accuracy(kind, data):
    other, _ = teachers.fit(
      dataclasses.replace(its, preprocessing=kind), dataset, given.original
    )
    examples = data.test.take(few)
    outputs = _logits(other, examples, its.model)
    return float((outputs.argmax(axis=1) == examples.labels).mean())

  def better(found, than):
    least = 1.5 / len(dataset.label_names)
    return found > max(than + max(_BETTER, chance), least)

  best, most = its.preprocessing, accuracy(its.preprocessing, dataset)
  rgb = ('imagenet', 'caffe') * (dataset.image_shape[-1] == 3)
  found = {
    kind: accuracy(kind, dataset)
    for kind in (*_PREPROCESSING, *rgb)
    if kind != its.preprocessing
  }
  kind = max(found, key=found.get)
  right, wrong = [], []
  if better(found[kind], most):
    best, most = kind, found[kind]
    right.append(f'--preprocessing={best}')
    wrong.append(f'--preprocessing={its.preprocessing}')
  otherwise = dataset.resized_otherwise()
  if otherwise is not None:
    resized = accuracy(best, otherwise)
    if better(resized, most):
      most = resized
      crops = resizing == records.STRETCH
      right.append(
        '--resizing=crop --pad=0' if crops else f'--resizing={records.STRETCH}'
      )
      wrong.append(f'--resizing={resizing}')
  if right:
    yield (
      f'it has {100 * most:.2f} % with {" ".join(right)}, so that '
      f'{" and ".join(wrong)} {"look" if len(wrong) > 1 else "looks"} wrong'
    )


def _other_order(outputs, labels, accuracy, names) -> Iterator[str]:
  """Yields what speaks for other classes in the teacher's outputs."""
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
      f'it would have {100 * best:.2f} % if its outputs meant {order}'
      f'{", ..." if classes > _NAMED else ""}, so that its classes seem to be '
      'in another order'
    )


def _of_layers(recipe, dataset, teacher, student) -> Iterator[Finding]:
  known = definitions.registered()
  terms = recipes.terms(recipe.student.method)
  if not any(known[name].reads('teacher_layer') for name in terms):
    return
  pairs = registry.resolve_layer_pairs(recipe, teacher, student)
  theirs, ours = zip(*pairs, strict=True)
  for name, net, chosen, asked in (
    ('teacher', teacher, theirs, recipe.teacher_layer),
    ('student', student, ours, recipe.student_layer),
  ):
    others = ', '.join(
      f'{each.layer} {_shape(each.shape)}'
      for each in taps.candidates(net)
      if each.called
    )
    layers_said = ', '.join(
      f'{layer.replace(".", "/")} {_shape(taps.shape(net, layer))}'
      for layer in chosen
    )
    yield Finding(
      f"the {name}'s layer",
      f'{layers_said}, by {asked}; the last of each size: {others}',
      f'--{name}_layer',
    )
  for pair in pairs:
    yield Finding('match', _match(recipe, teacher, student, pair), '--rate')


def _match(recipe, teacher, student, chosen) -> str:
  """Returns how a pair of maps comes to factors of one shape."""
  theirs, ours = (
    taps.shape(net, layer)
    for net, layer in zip((teacher, student), chosen, strict=True)
  )
  size = tuple(min(pair) for pair in zip(theirs[:2], ours[:2], strict=True))
  terms = recipes.terms(recipe.student.method)
  channels = theirs[-1]
  steps = [f'teacher {_shape(theirs)}']
  if recipes.needs_paraphraser(recipe.student.method):
    channels = round(channels * recipe.paraphraser.rate)
    steps.append(f'paraphraser to {channels} channels')
  if theirs[:2] != size:
    steps.append(f'averaged from {_shape(theirs[:2])} to {_shape(size)}')
  steps.append(f'factor {_shape((*size, channels))}; student {_shape(ours)}')
  if ours[:2] != size:
    steps.append(f'averaged from {_shape(ours[:2])} to {_shape(size)}')
  if 'ft_no_translator' not in terms:
    steps.append(f'translator to {channels} channels')
  return ', '.join(steps)


def _of_student(recipe, own) -> Finding:
  """Returns what the untrained student's int8 file takes.

  Args:
    recipe: What is to be run.
    own: The images as the student sees them.

  Raises:
    UsageError: TFLite lacks operations of it.
  """
  its = budget.measure(
    recipe.student.model,
    specs.spec(recipe, own),
    sampling.sample(own.train, budget.CALIBRATION).images[:],
  )
  return Finding(
    'student',
    f'{its.name} on images of {_shape(own.image_shape)}, {its.parameters:,} '
    f'parameters, {its.bytes:,} bytes in int8 '
    f'with built-in operations alone, {its.latency_ms:.3f} ms for one image in '
    'one thread here',
    '--student, --student_image_size, --max_bytes, --max_latency_ms',
  )


def _figures(*channels) -> str:
  return ' and '.join(','.join(map(str, each)) for each in channels)


def _bytes(dataset) -> int:
  return sum(
    int(np.prod(part.images.shape))
    for part in (dataset.train, dataset.validation, dataset.test)
  )


def _memory() -> int:
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def _shape(shape) -> str:
  return 'x'.join(map(str, shape))
