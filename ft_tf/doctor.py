"""A check before training: what fits, what does not, and how long it takes.

Each finding names the flag that changes it. Nothing is written.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from ft_tf import (
  findings,
  layer_check,
  recipe_fit,
  recipes,
  specs,
  teacher_check,
  teachers,
)
from ft_tf.data import (
  datasets,
  example_sets,
  records,
  sampling,
)
from ft_tf.export import budget, device_limits, student
from ft_tf.training import linear_head, precision

_SAMPLED = 500  # training images whose values are looked at
_NAMED = 10  # classes
# Of SGD with momentum: pretrained networks fall apart at 0.1, not at 0.01. A
# step of AdamW is about as large as its rate, whatever the gradient.
_HIGH_RATES = {recipes.SGD: 0.03, recipes.ADAMW: 0.003}
_GENTLE_RATES = {recipes.SGD: 0.01, recipes.ADAMW: 0.001}


def examine(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  given: teachers.Teacher | None = None,
  expected: float | None = None,
  has_linear_head: bool = False,
  export: student.Options = student.DEFAULTS,
) -> Iterator[findings.Finding]:
  """Yields what is found of data, teacher, layers and student.

  A given teacher is measured on test images, 2,000 at most; for a teacher, that
  chooses nothing.

  Args:
    recipe: What is to be run.
    dataset: The images.
    given: The value of `teachers.resolve` for these; None: it is resolved here.
    expected: The accuracy (0..1) that a given teacher is known to have.
    has_linear_head: Whether the last layer of the student is trained alone too.
    export: What is exported; the student must convert to its formats.

  Raises:
    UsageError: something does not fit, the student does not convert, or the
      teacher is below the expectation by more than two standard errors.
  """
  if given is None:
    given = teachers.resolve(recipe, dataset)
  teacher_check.check_expectation(expected, given)
  recipe = precision.settle(recipe)
  teacher_model = teachers.network(recipe, dataset, given)
  student_model = specs.build_student(recipe, dataset)
  seen = specs.student_dataset(recipe, dataset)
  fit = recipe_fit.check_parts(recipe, dataset, teacher_model, student_model)
  recipe = fit.recipe
  if has_linear_head:
    linear_head.check(recipe, student_model)
  yield from _check_data(recipe, dataset)
  if given is not None:
    yield from teacher_check.check(recipe, dataset, given, expected)
  else:
    start = teachers.describe_start(recipe.teacher, dataset)
    yield findings.Finding(
      'teacher',
      f'{recipe.teacher.model}, to be trained for {recipe.teacher.epochs} '
      f'epochs, {specs.count_parameters(teacher_model):,} parameters'
      + (f'; {start}' if start else ''),
      '--teacher, --teacher_weights, --new_head',
    )
  yield from layer_check.check(fit, teacher_model, student_model)
  start = specs.describe_start(recipe, dataset)
  if start:
    yield findings.Finding(
      'start of the student', start, '--student, --student_weights, --new_head'
    )
    yield findings.Finding(
      'values in the student',
      teacher_check.values_of_first_layer(student_model, seen.test),
      '--student, --student_weights',
    )
  yield from _check_rates(recipe, given)
  student.check_untrained(student_model, seen, export)
  yield _measure_student(recipe, seen)


def _check_data(
  recipe: recipes.Recipe, dataset: datasets.Dataset
) -> Iterator[findings.Finding]:
  train, data = dataset.train, recipe.data
  unlabelled = len(dataset.every) - len(train)
  yield findings.Finding(
    'images',
    f'{len(train):,} to train on, '
    + (f'{unlabelled:,} more without labels, ' if unlabelled else '')
    + f'{len(dataset.validation):,} to validate on, {len(dataset.test):,} to '
    f'test on, {findings.show_shape(dataset.image_shape)}, '
    + (
      'read from their files'
      if isinstance(train, records.StoredExamples)
      else f'{_bytes(dataset) / 2**30:.2f} GiB in memory'
    ),
    '--dataset, --unlabeled, --image_size, --resizing',
  )
  sample = sampling.sample(train, _SAMPLED).images[:]
  mean, std = example_sets.statistics(train)
  yield findings.Finding(
    'values',
    f'pixel values {sample.min()} to {sample.max()}; scaled to 0-1: mean '
    f'{_channels(mean)}, std {_channels(std)} (recipe: {_channels(data.mean)}, '
    f'{_channels(data.std)})',
    '--mean, --std',
  )
  counts = np.bincount(train.labels, minlength=len(dataset.label_names))
  names = dataset.label_names
  more = ', ...' if len(names) > _NAMED else ''
  yield findings.Finding(
    'classes',
    f'{len(names)}, in this order: {", ".join(names[:_NAMED])}{more}; '
    f'{counts.min():,} to {counts.max():,} images each',
    '--dataset',
  )


def _check_rates(
  recipe: recipes.Recipe, given: teachers.Teacher | None
) -> Iterator[findings.Finding]:
  """Yields the rates that are high for weights which are trained already."""
  starts = {
    'teacher': '' if given else teachers.source_file(recipe.teacher),
    'student': specs.student_file(recipe.student),
  }
  if recipe.student.method == recipes.LINEAR_HEAD:
    del starts['student']  # What is pretrained stays as it is.
  for role, path in starts.items():
    settings = getattr(recipe, role)
    rate, optimizer = settings.learning_rate, settings.optimizer
    if path and rate > _HIGH_RATES[optimizer]:
      yield findings.Finding(
        f'learning rate of the {role}',
        f'{rate:g} is high if the weights of {path} are pretrained, and may '
        'undo what they have learned: give '
        f'--{role}_learning_rate={_GENTLE_RATES[optimizer]:g}'
        + ' or --recipe=photos_finetune'
        * (optimizer == recipes.SGD),
        f'--{role}_learning_rate',
      )


def _measure_student(
  recipe: recipes.Recipe, seen: datasets.Dataset
) -> findings.Finding:
  """Returns the size, latency and memory of the untrained student's int8 file.

  Args:
    recipe: What is to be run.
    seen: The images as the student sees them.

  Raises:
    UsageError: TFLite lacks operations of it.
  """
  in_float32 = dataclasses.replace(recipe, precision='float32')
  measured = budget.measure(
    recipe.student.model,
    specs.spec(recipe, seen),
    sampling.sample(seen.train, budget.CALIBRATION).images[:],
    label_names=seen.label_names,
    student=specs.build_student(in_float32, seen),
  )
  figures = budget.describe(measured.files[device_limits.USUAL])
  return findings.Finding(
    'student',
    f'{measured.name} on images of {findings.show_shape(seen.image_shape)}, '
    f'{measured.parameters:,} parameters; in int8 with built-in operations '
    f'only: {figures} (one image, one thread, this machine)',
    '--student, --student_image_size, --max_bytes, --max_latency_ms, --max_ram',
  )


def _channels(values: Iterable[float]) -> str:
  return ','.join(map(str, values))


def _bytes(dataset: datasets.Dataset) -> int:
  return sum(
    int(np.prod(part.images.shape))
    for part in (dataset.train, dataset.validation, dataset.test)
  )
