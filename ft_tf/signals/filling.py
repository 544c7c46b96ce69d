"""The views that a student will train on, their signals kept in a store."""

import math
import sys
from collections.abc import Sequence

import keras
import tensorflow as tf

from ft_tf import recipes
from ft_tf.data import datasets, stores, views
from ft_tf.methods import base
from ft_tf.models import feature_maps
from ft_tf.signals import cache, constant


def check(
  store: cache.Store,
  methods: list[base.Method],
  teacher: keras.Model,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
) -> int:
  """Returns the bytes of a student's signals, before anything is trained.

  Args:
    store: Where they will be kept.
    methods: As of `estimate`, like the others.
    teacher: The teacher's model.
    recipe: The student's.
    dataset: The images.

  Raises:
    UsageError: they alone are more than the store may take. How many of them an
      earlier run has kept is known once the teacher is trained.
  """
  if not store.enabled or not methods:
    return 0
  count, view_bytes = estimate(methods, teacher, recipe, dataset)
  store.check(count, count, view_bytes, used=0)
  return count * view_bytes


def estimate(
  methods: list[base.Method],
  teacher: keras.Model,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
) -> tuple[int, int]:
  """Returns how many views a student's signals are of, and a view's bytes.

  Args:
    methods: The terms; their models may be untrained.
    teacher: The teacher's model, which may be untrained.
    recipe: The student's.
    dataset: The images.
  """
  layers = {layer for method in methods for layer in method.teacher_layers}

  def signals(logits, features):
    outputs = base.Outputs(logits, features)
    return [method.signal(outputs) for method in methods]

  width = 0
  if methods:
    shapes = tf.function(signals, autograph=False).get_concrete_function(
      tf.TensorSpec([None, *teacher.outputs[0].shape[1:]]),
      {
        name: tf.TensorSpec([None, *feature_maps.shape(teacher, name)])
        for name in layers
      },
    )
    width = sum(
      math.prod(shape[1:]) for shape in tf.nest.flatten(shapes.output_shapes)
    )
  count = len(dataset.every)
  views_count = len(
    views.view_numbers(count, recipe.data, recipe.student.epochs)
  )
  return views_count, cache.count_bytes(count, width)


def fill(
  store: cache.Store,
  signal: constant.ConstantSignal,
  methods: list[base.Method],
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  teacher_sha256: str,
  frozen_sha256: Sequence[str],
) -> cache.Joined:
  """Returns the signals of every view that a student will train on.

  Each term's are kept on their own, so that sums of terms share them.

  Args:
    store: Where they are kept, those of earlier students among them.
    signal: Of all terms, in their order.
    methods: The terms.
    recipe: The student's.
    dataset: The images.
    teacher_sha256: The digest of the teacher's file.
    frozen_sha256: The digest of each term's frozen model's file; '' if it has
      none.

  Raises:
    UsageError: they take more than the store may, or it cannot be written.
    TrainingError: a value does not fit into float16, or an image has changed.
  """
  data, examples = recipe.data, dataset.every
  numbers = views.view_numbers(len(examples), data, recipe.student.epochs)
  parts, end = [], 0
  for method, width, frozen in zip(
    methods, signal.part_widths(), frozen_sha256, strict=True
  ):
    first, end = end, end + width
    key = {
      **method.signal_key,
      'precision': recipe.precision,
      'teacher_sha256': teacher_sha256,
      'images_sha256': examples.digest,
      'shape': examples.images.shape,
      'views': views.describe(examples, data),
    }
    if frozen:
      key['paraphraser_sha256'] = frozen
    kept = store.open(key, examples=len(examples), width=width)

    def compute(number, columns=slice(first, end)):
      batches = views.read_view(examples, data, number).as_numpy_iterator()
      return (signal.rows(batch)[:, columns] for batch in batches)

    with stores.explained():  # Files may have changed.
      kept.fill(
        numbers, compute, lambda line: print(line, file=sys.stderr, flush=True)
      )
    parts.append(kept)
  return cache.Joined(parts)
